"""The command line ``scrfd-trt``, where detector and overlays meet."""


def main() -> None:
    """Run the command line and exit. A signal that comes while packages load ends the process at once."""
    import gc  # noqa: PLC0415
    import os  # noqa: PLC0415

    from scrfd_trt._cli import signals  # noqa: PLC0415 - nothing may load before

    signals.exit_at_once()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy would start a thread for each core, which waits actively
    gc.disable()  # until the command is loaded; packages leave little garbage, and collections take a while
    from scrfd_trt._cli.application import run  # noqa: PLC0415

    run()
