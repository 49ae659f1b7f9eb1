# SPDX-License-Identifier: MIT
"""Certificates for tests of TLS, made by openssl's program in a directory."""

import os
import subprocess


def _openssl(directory, *args, text=None):
    done = subprocess.run(["openssl", *args], cwd=directory, input=text, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, "openssl %s: %s" % (" ".join(args), done.stderr)


def make_authority(directory, name):
    """NAME.pem and NAME.key: a certificate authority."""
    _openssl(directory, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "30", "-subj", "/CN=" + name, "-keyout", name + ".key", "-out", name + ".pem")
    return os.path.join(directory, name + ".pem")


def make_certificate(directory, name, authority, subject=None, alternative=None, days=30):
    """NAME.pem and NAME.key (0600), signed by that authority. Returns both paths."""
    _openssl(directory, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
             subject or "/CN=" + name, "-utf8", "-keyout", name + ".key", "-out", name + ".csr")
    extension = os.path.join(directory, name + ".ext")
    with open(extension, "w", encoding="utf-8") as f:
        f.write("basicConstraints=CA:FALSE\n")
        if alternative:
            f.write("subjectAltName=%s\n" % alternative)
    _openssl(directory, "x509", "-req", "-in", name + ".csr", "-CA", authority + ".pem", "-CAkey",
             authority + ".key", "-CAcreateserial", "-days", str(days), "-extfile", extension, "-out",
             name + ".pem")
    os.chmod(os.path.join(directory, name + ".key"), 0o600)
    return os.path.join(directory, name + ".pem"), os.path.join(directory, name + ".key")
