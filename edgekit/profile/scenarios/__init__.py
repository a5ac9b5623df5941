"""The four scenarios of MLPerf Inference, one module each; ``base.py`` is their contract."""
