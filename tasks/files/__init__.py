"""Where accepted files and reports lie: one small protocol, and the local folder behind it.

============  ==============================================================================
file_store    the protocol: put, get, publish a set with its manifest last, list, remove
local_folder  a folder of this machine as a store
atomic_write  a file whole or not at all, and on the disk
============  ==============================================================================

`Services.files` holds the accepted files, each under its checksum, `Services.reports` a folder of reports a batch. Both
are stores; another kind of store needs a class that fulfils `file_store.FileStore`, and one line in `Services`.
"""
