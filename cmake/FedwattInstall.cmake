# Filled once every room exists.
