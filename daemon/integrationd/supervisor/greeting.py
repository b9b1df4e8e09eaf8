"""What a started daemon says on standard output: where it listens, with a line to try."""

import sys

from integrationd import __version__
from integrationd.settings import Settings


def greet(settings: Settings) -> None:
    """Say where the daemon listens, with a line to try."""
    api, key_file = settings.api, settings.api_key_file
    told = [f"integrationd {__version__}"]
    if api.socket is not None:
        told.append(f"listening on the Unix socket {api.socket}")
    if api.address is not None:
        told.append(f"listening on http://{api.listen} (key in {key_file})")
    told += ["try:", f"  {_curl_line(settings)}"]
    sys.stdout.write("\n".join(told) + "\n")


def _curl_line(settings: Settings) -> str:
    api = settings.api
    if api.socket is not None:
        target = f"--unix-socket {api.socket} http://localhost/v1/sms/send"
    else:
        header = f'"Authorization: Bearer $(cat {settings.api_key_file})"'
        target = f"-H {header} http://{api.listen}/v1/sms/send"
    payload = '{"to": "+254711000111", "message": "Hello from integrationd"}'
    return f"curl -s {target} -d '{payload}'"
