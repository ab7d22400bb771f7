"""Sources of pictures behind the ``Source`` port."""
