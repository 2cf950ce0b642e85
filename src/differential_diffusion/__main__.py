"""`python -m differential_diffusion` is `diffdiff`."""

from .cli import main

if __name__ == "__main__":
    main()
