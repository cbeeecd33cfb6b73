"""``python -m scrfd_trt`` is ``scrfd-trt``."""

from scrfd_trt._cli import main

if __name__ == "__main__":
    main()
