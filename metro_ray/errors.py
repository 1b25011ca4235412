"""Every error a user can cause. Messages say what was wrong, what was expected and what to do next.

MetroRayError
|-- ConfigError           a flag, key or value of the configuration
|-- AssetError            a model file with wrong or unsafe content
|-- AssetNotFoundError    a model file that is not there
|-- DataError             a data set, a file or a row of it
|-- StorageError          remote storage that does not answer
|-- CheckpointError       a checkpoint that does not fit or cannot be read
|-- ResourceError         a cluster that cannot run what was asked for
|-- TrainingError         a run that cannot go on
`-- RunStopped            a run that was asked to stop, and did
"""


class MetroRayError(Exception):
    """Base of all errors that are explained to the user without a traceback."""


class ConfigError(MetroRayError, ValueError):
    """An unknown key, an impossible value, or two settings that contradict each other."""


class AssetError(MetroRayError, ValueError):
    """A model file has the wrong content, or content that is refused as unsafe."""


class AssetNotFoundError(MetroRayError, FileNotFoundError):
    """A model file is missing."""


class DataError(MetroRayError, ValueError):
    """A data set, one of its files or one of its rows cannot be used."""


class StorageError(MetroRayError, OSError):
    """Remote storage still failed after several attempts; not the fault of a row."""


class CheckpointError(MetroRayError, ValueError):
    """A checkpoint cannot be read or belongs to another architecture."""


class ResourceError(MetroRayError, RuntimeError):
    """The cluster does not have what the run asks for."""


class TrainingError(MetroRayError, RuntimeError):
    """A run cannot go on."""


class RunStopped(MetroRayError):  # noqa: N818 - not an error
    """A run wrote a checkpoint and ended because it was asked to (SIGTERM); nothing went wrong."""
