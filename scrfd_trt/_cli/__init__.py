"""The command line ``scrfd-trt``, where detector and overlays meet."""


def main() -> None:
    """Run the command line and exit. A signal that comes while packages load ends the process at once."""
    from scrfd_trt._cli import signals  # noqa: PLC0415 - nothing may load before

    signals.exit_at_once()
    from scrfd_trt._cli.application import run  # noqa: PLC0415

    run()
