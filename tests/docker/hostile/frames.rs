//! HTTP/2 with the frames written by hand: what is against the protocol, what is too much of what it allows, and heads that would be another
//! request in HTTP/1. The library that reads it hangs up.

use super::wire::{Case, Want};

/// HTTP/2 that is none, or too much.
pub(crate) fn frames(key: &str) -> Vec<Case> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let frame = |kind: u8, flags: u8, stream: u32, body: &[u8]| {
        let mut bytes = (body.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    };
    let begin = |rest: Vec<u8>| [PREFACE, &frame(4, 0, 0, &[]), &rest].concat();
    // GET / of h by the tables' own entries.
    let get = [0x82, 0x86, 0x84, 0x41, 1, b'h'];
    let header = |name: &str, value: &str| {
        let mut block = vec![0x00, name.len() as u8];
        block.extend(name.as_bytes());
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
        block
    };
    let resets = (0..2000u32).flat_map(|n| {
        let stream = 2 * n + 1;
        [
            frame(1, 5, stream, &get),
            frame(3, 0, stream, &8u32.to_be_bytes()),
        ]
        .concat()
    });
    let continued = (0..2000).flat_map(|_| frame(9, 0, 1, &header("x", &"y".repeat(100))));
    let key = header("authorization", &format!("Bearer {key}"));
    let deleted = |extra: &[u8]| {
        let path = [&[0x04, 17][..], b"/functions/victim"].concat();
        let method = [&[0x02, 6][..], b"DELETE"].concat();
        [&method[..], &[0x86], &path, &[0x41, 1, b'h'], &key, extra].concat()
    };
    let reset = |bytes: Vec<u8>| [bytes, frame(7, 0, 0, &[0; 8])].concat();
    let mut cases = vec![
        ("preface and junk", [PREFACE, &[0xff; 64]].concat()),
        (
            "frame over its limit",
            begin([&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1][..], &[0; 64]].concat()),
        ),
        ("settings of a wrong length", begin(frame(4, 0, 0, &[0; 5]))),
        ("settings on a stream", begin(frame(4, 0, 1, &[]))),
        ("data on no stream", begin(frame(0, 0, 0, b"x"))),
        ("window of nothing", begin(frame(8, 0, 0, &[0; 4]))),
        (
            "window that overflows",
            begin(
                [
                    frame(8, 0, 0, &0x7fff_ffffu32.to_be_bytes()),
                    frame(8, 0, 0, &0x7fff_ffffu32.to_be_bytes()),
                ]
                .concat(),
            ),
        ),
        (
            "headers that cannot be unpacked",
            begin(frame(1, 5, 1, &[0xff; 32])),
        ),
        ("headers of an even stream", begin(frame(1, 5, 2, &get))),
        ("continuation of nothing", begin(frame(9, 4, 1, &get))),
        (
            "continuation without end",
            begin([frame(1, 1, 1, &get), continued.collect()].concat()),
        ),
        ("reset again and again", begin(resets.collect())),
        ("push from a client", begin(frame(5, 4, 1, &get))),
    ];
    // These are errors of one stream; the connection is told to end by us.
    for (name, extra) in [
        ("connection header in HTTP/2", header("connection", "close")),
        (
            "transfer encoding in HTTP/2",
            header("transfer-encoding", "chunked"),
        ),
        ("header in capitals in HTTP/2", header("X-Y", "z")),
        ("line break in a header of HTTP/2", header("x", "y\r\nz: a")),
        (
            "second path in HTTP/2",
            header(":path", "/functions/victim"),
        ),
        ("unknown pseudo header in HTTP/2", header(":what", "x")),
        (
            "length that is not kept in HTTP/2",
            header("content-length", "5"),
        ),
    ] {
        cases.push((name, reset(begin(frame(1, 5, 1, &deleted(&extra))))));
    }
    let case = |(name, bytes): (&str, Vec<u8>)| Case::new(name, bytes, Want::Closed);
    cases.into_iter().map(case).collect()
}
