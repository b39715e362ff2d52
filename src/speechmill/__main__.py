"""python -m speechmill: what torchrun starts."""

from __future__ import annotations

from speechmill.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
