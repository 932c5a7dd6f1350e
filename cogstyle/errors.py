"""Every error a user can cause, each naming the offending value and the limit."""


class CogstyleError(Exception):
    """Base of all errors raised for a user's input; the CLI prints it as one line and exits with 2."""


class ConfigError(CogstyleError):
    """An option, recipe or preset that is unknown, out of range or contradictory."""


class PromptError(CogstyleError):
    """A prompt that is empty or longer than the text span."""


class FileError(CogstyleError):
    """A file or folder that cannot be read or written, or that another process is writing."""


class BundleError(FileError):
    """A bundle whose files are missing, damaged, or made for other weights."""


class MediaError(CogstyleError):
    """An image or video that cannot be read or written."""


class LayoutError(CogstyleError):
    """Tokens or tensors that do not fit the layout they are used with."""


class TrainingError(CogstyleError):
    """A run that cannot continue: a lost process, or too many losses that are not finite."""


class SamplingError(CogstyleError):
    """Logits that are not finite: nothing can be drawn from them."""
