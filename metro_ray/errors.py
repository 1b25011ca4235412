"""Every error a user can cause. Messages say what was wrong, what was expected and what to do next.

MetroRayError
|-- ConfigError           a flag, key or value of the configuration
|-- AssetError            a model file with wrong or unsafe content
|-- AssetNotFoundError    a model file that is not there
|-- DataError             a data set, a file or a row of it
|-- StorageError          remote storage that does not answer
|-- CheckpointError       a checkpoint that does not fit or cannot be read
|-- ResourceError         a cluster that cannot run what was asked for
|-- RequestError          a server that refused a request, or did not answer
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


class RequestError(MetroRayError, RuntimeError):
    """A server refused a request, or did not answer.

    Args:
        message: what was wrong, in the server's words where it answered.
        code: for programs, such as `bad_image`; `unreachable` where there is no answer.
        status: of HTTP; 0 where there is no answer.
        request_id: under which the server's logs know the request.
        retry_after_s: when the server wants to be asked again.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int = 0,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class TrainingError(MetroRayError, RuntimeError):
    """A run cannot go on."""


class RunStopped(MetroRayError):  # noqa: N818 - not an error
    """A run ended because it was asked to (SIGTERM), with a checkpoint where it trains; nothing
    went wrong.
    """
