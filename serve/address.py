"""The address that the local server listens on."""

import socket

from kft.errors import ServeError


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that holds the address while the models load, and takes connections only after `listen`.

    Raises:
        ServeError: If the address is taken, unknown or not allowed.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise address_error(host, port, error) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL of a bound socket, with the port that it really has."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def address_error(host: str, port: int, error: Exception) -> ServeError:
    """The refusal for an address that cannot be listened on."""
    what_to_do = "Stop what uses it, or choose another port (0 for a free one)."
    return ServeError(f"Cannot listen on {host}, port {port}: {error}. {what_to_do}")
