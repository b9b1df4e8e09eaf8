"""The mutant: a daemon that sends again whatever may not have arrived. The judge must catch it.

Started like the daemon itself: ``python blind.py --config FILE``. Nothing of the product is
changed; every operation is taken for one that may be repeated.
"""

import os
import sys
from pathlib import Path

from integrationd import supervisor
from integrationd.registry.loader import ServedOperation


def main() -> None:
    """Run the daemon, believing that everything may be sent twice."""
    ServedOperation.is_repeat_safe = lambda *_: True  # type: ignore[method-assign] # it is the mutation
    sys.exit(supervisor.run(Path(sys.argv[sys.argv.index("--config") + 1]), os.environ))


if __name__ == "__main__":
    main()
