"""Files that survive kills and power cuts, here and in object stores."""
