"""`python -m park` is the command `park`."""

from park.cli import main

if __name__ == "__main__":
    main()
