"""The version of the program, as every report states it."""

VERSION = "0.1.0"
