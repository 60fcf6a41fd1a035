//! Which programs talk to somebody?

use aepo::tool::ToolOutcome::*;

use crate::table::{Code::Text, Hostile, ROW, refused};

pub const PROGRAMS: &[Hostile] = &[
    refused(
        "reach",
        "import socket",
        &[
            "socket.create_connection(('127.0.0.1', PORT), 2)",
            "socket.create_connection(('::1', PORT), 2)",
            "socket.create_connection(('0.0.0.0', PORT), 2)",
            "socket.create_connection(('169.254.169.254', 80), 2)",
            "socket.create_connection(('8.8.8.8', 53), 2)",
            "socket.getaddrinfo('example.com', 80)",
            "socket.gethostbyname('localhost.example')",
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53))",
        ],
    ),
    refused(
        "open",
        "import socket",
        &[
            "socket.socket()",
            "socket.socket(socket.AF_INET6)",
            "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
            "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
            "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
            "socket.socket(socket.AF_UNIX)",
            "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
            "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
            "socket.socket(socket.AF_VSOCK)",
            "socket.socket(38, socket.SOCK_SEQPACKET)",
            "socket.socket(31, socket.SOCK_RAW)",
            "socket.socket(29, socket.SOCK_RAW)",
            "socket.socket(44, socket.SOCK_RAW)",
        ],
    ),
    Hostile {
        name: "serve",
        code: Text("import http.server\nhttp.server.HTTPServer(('', 0), None).serve_forever()"),
        ends: &[Raised],
        ..ROW
    },
    Hostile {
        name: "send by a web client",
        code: Text(
            "import urllib.request\ntry: urllib.request.urlopen('http://127.0.0.1:PORT/', timeout=2)\nexcept OSError: \
             print('refused')",
        ),
        ends: &[Ok],
        prints: Some("refused\n"),
        ..ROW
    },
    Hostile {
        name: "names of interfaces and hosts",
        code: Text(
            "import socket\ntry: names = [n for _, n in socket.if_nameindex()]\nexcept OSError: names = []\nprint('BREACH' \
             if set(names) - {'lo'} else 'none')",
        ),
        ends: &[Ok],
        prints: Some("none\n"),
        ..ROW
    },
    Hostile {
        name: "a socket that was never opened",
        code: Text(
            "import array, os, socket\nfor fd in range(64):\n    try:\n        s = socket.socket(fileno=fd)\n        \
             s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))])\n        \
             print('BREACH', fd)\n    except OSError: pass\nprint('done')",
        ),
        ends: &[Ok, Signal],
        prints: Some("done\n"),
        ..ROW
    },
];
