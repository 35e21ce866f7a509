"""Other libraries' names and shapes over Echo, for programs that were written for them.

:mod:`echo.compat.faster_whisper` and :mod:`echo.compat.whisperx`: change the import, keep the rest.
"""
