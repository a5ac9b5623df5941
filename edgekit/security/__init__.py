"""Who may use a server, how much, over what connection; and whose bundles it serves."""
