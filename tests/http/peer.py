"""The servers of tests/http: what a path asks for is what it does. Each request is a line of JSON in the file named first."""
import json, os, ssl, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import ThreadingMixIn
from urllib.parse import unquote
from xmlrpc.client import Fault
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

lock = threading.Lock()
seen = open(sys.argv[1], "a", buffering=1)
asked = {}
barriers = {}
here = []


def note(handler, body):
    with lock:
        asked[handler.path] = asked.get(handler.path, 0) + 1
        headers = [[name.lower(), value] for name, value in handler.headers.items()]
        line = {"method": handler.command, "path": handler.path, "headers": headers, "body": body.decode("latin-1"), "at": time.time()}
        seen.write(json.dumps(line) + "\n")
        return asked[handler.path]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        times = note(self, body)
        word, _, rest = self.path[1:].partition("/")
        if word == "status":
            self.answer(int(rest.split("?")[0]), b"because of me")
        elif word == "busy":
            if times == 1:
                self.answer(503, b"later", Retry_After=rest)
            else:
                self.answer(200)
        elif word == "hang":
            time.sleep(600)
        elif word == "huge":
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
            sent = 0
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
                    sent += 65536
            except OSError:
                with lock:
                    seen.write(json.dumps({"cut_after": sent}) + "\n")
            self.close_connection = True
        elif word == "half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")
            self.close_connection = True
        elif word == "to":
            status, _, where = rest.partition("/")
            self.answer(int(status), b"elsewhere", Location=unquote(where))
        elif word == "together":
            with lock:
                barrier = barriers.setdefault(rest, threading.Barrier(int(rest)))
            barrier.wait(30)
            self.answer(200)
        elif word == "alone":
            with lock:
                here.append(self)
                status = 200 if len(here) == 1 else 409
            time.sleep(0.005)
            with lock:
                here.remove(self)
            self.answer(status)
        elif word == "laughs":
            entities = "".join(f'<!ENTITY a{n} "{("&a%d;" % (n - 1)) * 10}">' for n in range(1, 9))
            xml = f'<!DOCTYPE x [<!ENTITY a0 "ha">{entities}]><methodResponse><params><param><value>&a8;</value></param></params></methodResponse>'
            self.answer(200, xml.encode(), Content_Type="text/xml")
        elif word == "deep":
            xml = "<methodResponse><params><param>" + "<value><array><data>" * 100000
            self.answer(200, xml.encode(), Content_Type="text/xml")
        else:
            self.answer(200, b"fine")

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = do


class Rpc(ThreadingMixIn, SimpleXMLRPCServer):
    daemon_threads = True


class RpcHandler(SimpleXMLRPCRequestHandler):
    rpc_paths = ("/",)

    def decode_request_content(self, data):
        note(self, data)
        return super().decode_request_content(data)

    def log_message(self, *arguments):
        pass


def fault(code, text):
    raise Fault(code, text)


class Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        pass  # clients go away, and are meant to


http = Quiet(("127.0.0.1", 0), Handler)
rpc = Rpc(("127.0.0.1", 0), requestHandler=RpcHandler, allow_none=True)
rpc.register_function(lambda *numbers: sum(numbers), "sum")
rpc.register_function(lambda value: value, "echo")
rpc.register_function(repr, "repr")
rpc.register_function(fault, "fault")
threading.Thread(target=rpc.serve_forever, daemon=True).start()
threading.Thread(target=http.serve_forever, daemon=True).start()
ports = [http.server_address[1], rpc.server_address[1]]
if len(sys.argv) > 2:
    secure = Quiet(("127.0.0.1", 0), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(sys.argv[2])
    secure.socket = tls.wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=secure.serve_forever, daemon=True).start()
    ports.append(secure.server_address[1])
print(*ports, flush=True)
sys.stdin.read()  # until the test ends
os._exit(0)
