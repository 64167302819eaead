"""The paper's figures and tables as specifications: from the rows of an item's run to panels, axes, lines and cells."""
