import os
import pickle

import numpy as np
import pytest
import scipy.sparse

from metro_ray.bodies.unpickle import read_object_array, read_pickle
from metro_ray.errors import AssetError


class Malicious:
    """Creates a file when it is unpickled the ordinary way."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def opcodes(path, program):
    path.write_bytes(program)
    return path


def test_the_attack_works_on_an_ordinary_unpickler(tmp_path):
    path = write(tmp_path / "model.pkl", {"v_template": Malicious(tmp_path / "owned")})
    pickle.loads(path.read_bytes())
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_model_file_is_refused_and_not_run(tmp_path, protocol):
    path = write(tmp_path / "model.pkl", {"v_template": Malicious(tmp_path / "owned")}, protocol)
    with pytest.raises(AssetError, match=r"refused: it names (posix|nt)\.mkdir"):
        read_pickle(path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "name",
    ["builtins eval", "builtins getattr", "__builtin__ eval", "numpy fromfile", "os system",
     "numpy.lib.npyio load", "scipy.sparse._csc sys", "functools partial", "metro_ray.errors os"],
)  # fmt: skip
def test_every_other_name_is_refused(tmp_path, name):
    module, attribute = name.split()
    path = opcodes(tmp_path / "model.pkl", f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(AssetError, match=f"names {module}.{attribute}"):
        read_pickle(path)


def test_dotted_attributes_of_allowed_names_are_refused(tmp_path):
    # STACK_GLOBAL resolves dots; numpy.ndarray itself is allowed
    program = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."
    with pytest.raises(AssetError, match=r"numpy\.ndarray\.tofile"):
        read_pickle(opcodes(tmp_path / "model.pkl", program))


def test_nothing_that_a_file_sets_on_a_name_outlives_it(tmp_path):
    # BUILD with a slot state calls setattr on the class that was named last
    program = b"\x80\x02cscipy.sparse.csc\ncsc_matrix\nN}X\x06\x00\x00\x00markedK\x01s\x86b."
    with pytest.raises(AssetError):
        read_pickle(opcodes(tmp_path / "model.pkl", program))
    assert not hasattr(scipy.sparse.csc_matrix, "marked")


def test_arrays_and_sparse_matrices_arrive(tmp_path):
    regressor = scipy.sparse.random(5, 9, 0.4, format="csc", random_state=0)
    content = {
        "J_regressor": regressor,
        "f": np.arange(6, dtype=np.uint32).reshape(2, 3),
        "s": "lbs",
    }
    for protocol in (0, 2, 4):
        back = read_pickle(write(tmp_path / "model.pkl", content, protocol))
        np.testing.assert_array_equal(back["J_regressor"].toarray(), regressor.toarray())
        np.testing.assert_array_equal(back["f"], content["f"])
        assert back["f"].dtype == np.uint32
        assert back["s"] == "lbs"


def python2_chumpy_pickle():
    """{'v': chumpy.ch.Ch with x = [1, 2]; 'w': chumpy.reordering.Select of it} as Python 2 wrote it."""
    array = (
        "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        "(I1\n(I2\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
        "S'\\x00\\x00\\x00\\x00\\x00\\x00\\xf0?\\x00\\x00\\x00\\x00\\x00\\x00\\x00@'\ntb"
    )
    ch = f"ccopy_reg\n_reconstructor\n(cchumpy.ch\nCh\nc__builtin__\nobject\nNtR(dS'x'\n{array}sb"
    select = (
        "ccopy_reg\n_reconstructor\n(cchumpy.reordering\nSelect\nc__builtin__\nobject\nNtR"
        f"(dS'a'\n{ch}sS'idxs'\n(lI1\naI0\nasS'preferred_shape'\n(I2\nI1\ntsb"
    )
    return f"(dS'v'\n{ch}sS'w'\n{select}s.".encode("latin1")


def test_chumpy_objects_become_their_arrays(tmp_path):
    content = read_pickle(opcodes(tmp_path / "model.pkl", python2_chumpy_pickle()))
    np.testing.assert_array_equal(content["v"], [1.0, 2.0])
    np.testing.assert_array_equal(content["w"], [[2.0], [1.0]])


@pytest.mark.parametrize("damage", [b"", b"not a pickle", pickle.dumps({"a": 1})[:-3]])
def test_damaged_files_are_named(tmp_path, damage):
    path = opcodes(tmp_path / "model.pkl", damage)
    with pytest.raises(AssetError, match=r"model\.pkl cannot be read"):
        read_pickle(path)


def test_a_file_without_dictionary_is_named(tmp_path):
    with pytest.raises(AssetError, match="should hold a dictionary, got list"):
        read_pickle(write(tmp_path / "model.pkl", [1, 2]))


def objects(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def test_object_entries_are_read_one_by_one(tmp_path):
    matrix = scipy.sparse.identity(3, format="csc")
    path = tmp_path / "sampling.npz"
    np.savez(path, D=objects(matrix, matrix), M=objects(Malicious(tmp_path / "owned")))
    assert [item.shape for item in read_object_array(path, "D")] == [(3, 3), (3, 3)]
    assert not (tmp_path / "owned").exists()
    with pytest.raises(AssetError, match=r"sampling\.npz: M is refused"):
        read_object_array(path, "M")
    assert not (tmp_path / "owned").exists()


def test_missing_entry_and_broken_archive_are_named(tmp_path):
    path = tmp_path / "sampling.npz"
    np.savez(path, D=np.zeros(2))
    with pytest.raises(AssetError, match=r"sampling\.npz: U cannot be read"):
        read_object_array(path, "U")
    path.write_bytes(b"PK nonsense")
    with pytest.raises(AssetError, match=r"sampling\.npz: D cannot be read"):
        read_object_array(path, "D")
