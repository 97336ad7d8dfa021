"""eCryptfs without the kernel: names and contents of an encrypted home, read from what lies on the disk.

Only reading; the format is that of Linux (fs/ecryptfs) and eCryptfs-utils. AES comes from `cryptography`,
which is imported where it is first needed. In the order of a recovery:

    home       the encrypted homes below a directory, and this user's own
    passphrase the login passphrase opens the mount passphrase, which makes the keys
    names      a name or the target of a symbolic link
    header     how a file is encrypted, and its own key
    contents   the plain text of a file
    lower      all entries of an encrypted home, by their plain names
    recovery   the same, written to a directory
"""
