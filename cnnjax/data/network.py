"""One short question to a server, so that being offline is known at once."""

import ssl
import threading
import urllib.error
import urllib.request

_SECONDS = 5.0


def unreachable(url: str) -> str | None:
    """Why `url` cannot be downloaded now, or None if its server starts to send it.

    tensorflow-datasets would repeat a failing download for more than a minute. The answer comes within
    5 seconds even where looking up the host's name hangs, which no timeout of a socket covers.
    """
    answer: list[str | None] = ["no answer"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(url, timeout=_SECONDS):
                answer[0] = None
        except urllib.error.HTTPError as error:
            error.close()
            answer[0] = str(error)
        except OSError as error:
            reason = getattr(error, "reason", error)
            # The server is there, and the download itself brings its own certificates.
            answer[0] = None if isinstance(reason, ssl.SSLError) else str(reason)

    question = threading.Thread(target=ask, daemon=True)
    question.start()
    question.join(_SECONDS)
    return answer[0]
