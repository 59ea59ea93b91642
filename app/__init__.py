"""The app: ``python -m app``. One file or package a tab, one line a tab in ``TABS`` of ``app.__main__``."""

import os

# Before Gradio is imported: it reads this once, and the app sends nothing anywhere.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
