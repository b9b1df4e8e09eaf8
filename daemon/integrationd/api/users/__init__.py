"""The paths and words of the users' documents, mapped onto those of ``/v1``."""
