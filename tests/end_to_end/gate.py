"""A relay between a client and the coordinator that holds bytes back while a condition says so."""

import socket
import threading
import time


class Gate:
    """`hold_up()` and `hold_down()` are asked with bytes in hand, before any of them is passed on: what a client does before it sends (a file that it writes)
    is seen in time. Use as a context manager."""

    def __init__(self, address, hold_up=lambda: False, hold_down=lambda: False):
        host, port = address.rsplit(":", 1)
        self.coordinator = (host, int(port))
        self.hold_up, self.hold_down = hold_up, hold_down
        self.holding = threading.Event()  # set once something is held, for good
        self.sockets = set()
        self.open = True
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.open = False
        self.listener.close()
        self.cut()

    def cut(self):
        """Drops all connections and what is held of them."""
        for one in list(self.sockets):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended by itself
        self.sockets.clear()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self.coordinator)
            except OSError:  # it is gone; the client hears it as it would without us
                client.close()
                continue
            self.sockets |= {client, server}
            for source, sink, hold in ((client, server, self.hold_up), (server, client, self.hold_down)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass, args=(source, sink, hold), daemon=True).start()

    def _pass(self, source, sink, hold):
        try:
            while data := source.recv(1 << 16):
                while self.open and source in self.sockets and hold():
                    self.holding.set()
                    time.sleep(0.01)
                if source not in self.sockets:
                    break
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.sockets.discard(one)
