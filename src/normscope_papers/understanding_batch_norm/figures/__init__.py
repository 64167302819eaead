"""The paper's figures as specifications: from the rows of an item's run to panels, axes, lines and grids."""
