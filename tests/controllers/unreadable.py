raise RuntimeError("this module fails")
