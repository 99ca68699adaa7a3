"""`python -m simulator --port 8700 --profile rough_night --seed 1`: elepay on localhost."""

from __future__ import annotations

import argparse

from simulator.profile import ProfileError, profile_names
from simulator.server import serve


def main() -> None:
    """Serve as the command line says, until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m simulator", description="elepay on localhost with its faults")
    parser.add_argument("--host", default="127.0.0.1", help="127.0.0.1, localhost, ::1; 0.0.0.0 inside of a container")
    parser.add_argument("--port", type=int, default=8700, help="0 takes a free one")
    parser.add_argument("--profile", default="clean", help=f"a TOML file, or one of: {', '.join(profile_names())}")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same faults")
    chosen = parser.parse_args()
    try:
        serve(chosen.host, chosen.port, chosen.profile, chosen.seed)
    except (ProfileError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
