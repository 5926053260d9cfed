"""Certificates for tests: an authority of their own, and what it signs, made by openssl(1)."""

import subprocess
from pathlib import Path

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class Authority:
    """An authority in a directory."""

    def __init__(self, place: Path, name: str = "authority") -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.place, self.name = place, name
        self.cert, self.key = place / f"{name}.pem", place / f"{name}.key"
        self._count = 0
        _openssl(
            "req", "-x509", *_CURVE, "-subj", f"/CN={name}", "-days", 2,
            "-keyout", self.key, "-out", self.cert,
        )  # fmt: skip

    def sign(self, where: Path, name: str, *, days: int = 2) -> None:
        """Write ``cert``, ``key`` and ``ca`` for a host of that name into a directory.

        The key comes last and by rename, as an operator would do it.
        """
        where.mkdir(parents=True, exist_ok=True)
        self._count += 1
        request, cert, key = (
            self.place / f"{name}.{self._count}.{end}" for end in ("csr", "pem", "key")
        )
        names = self.place / f"{name}.ext"
        names.write_text(f"subjectAltName=DNS:{name}\n")
        _openssl("req", "-new", *_CURVE, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key,
            "-set_serial", self._count, "-days", days, "-extfile", names, "-out", cert,
        )  # fmt: skip
        for made, end in ((self.cert, "ca"), (cert, "cert"), (key, "key")):
            temporary = where / f"{end}.new"
            temporary.write_bytes(made.read_bytes())
            temporary.rename(where / end)
