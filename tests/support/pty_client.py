"""A client of a forkpty router that has no terminal."""

import json
import socket

from patience import patient

from donjon.fork_pty import protocol
from donjon.fork_pty.protocol import Answers, Word


class Client:
    """Says hello, and keeps what it is shown and told."""

    def __init__(self, path, **hello):
        self.link = socket.socket(socket.AF_UNIX)
        self.link.settimeout(patient(15))
        self.link.connect(path)
        self.link.sendall(protocol.said(Word.HELLO, **hello))
        self.answers = Answers()
        self.text = b""
        self.news = []
        self.open = True

    def read(self):
        try:
            data = self.link.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.open = False
        for word, body in self.answers.feed(data):
            if word == Word.OUTPUT:
                self.text += body
            else:
                self.news.append(json.loads(body))

    def until(self, text):
        while text not in self.text:
            assert self.open, (self.text[-300:], self.news)
            self.read()
        self.text = self.text.partition(text)[2]

    def told(self, kind):
        while not any(one["news"] == kind for one in self.news):
            assert self.open, self.news
            self.read()
        found = next(one for one in self.news if one["news"] == kind)
        self.news.remove(found)
        return found

    def type(self, text):
        self.link.sendall(protocol.stdin(text))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.link.close()
