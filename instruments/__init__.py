"""Drivers, and the backend that stands on them. Nothing heavy is imported here.

``MEMRISTOR_HIL`` tells this package from others of the same import name (InstrumentKit is called ``instruments``, too);
it is checked before any instrument is opened.
"""

MEMRISTOR_HIL = True
