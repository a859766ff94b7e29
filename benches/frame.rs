//! The frame codec of the worker protocol: what a call's two frames cost without any socket.

#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot go on has nothing better to do"
)]

use bytes::{BufMut, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hearth::domain::id::RequestId;
use hearth::worker::frame::{self, Frame, Kind};
use hearth::worker::message;

/// A greeting, a page, an image.
const SIZES: [usize; 3] = [64, 16 * 1024, 1024 * 1024];

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame/encode invoke");
    let id = RequestId::generate();
    for size in SIZES {
        let payload = vec![b'x'; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size} B"), |b| {
            // Reused, as a connection reuses its own.
            let mut out = BytesMut::new();
            b.iter(|| {
                out.clear();
                let length = message::invoke_head_len(0) + payload.len();
                out.put_slice(&frame::header(Kind::Invoke, 0, 7, length));
                message::invoke_head(&mut out, 1_763_000_000_000, id, b"");
                out.put_slice(&payload);
                out.len()
            });
        });
    }
    group.finish();
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame/decode answer");
    for size in SIZES {
        let mut wire = BytesMut::new();
        frame::encode(
            &Frame::new(Kind::ResponseEnd, 7, vec![b'x'; size]),
            &mut wire,
        );
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size} B"), |b| {
            b.iter_batched_ref(
                || wire.clone(),
                |input| frame::decode(input).unwrap().unwrap().body.len(),
                BatchSize::SmallInput,
            );
        });
    }
    group.bench_function("header alone", |b| {
        let mut input = BytesMut::from(&frame::header(Kind::ResponseEnd, 0, 7, 64)[..]);
        b.iter(|| frame::decode(&mut input).unwrap().is_none());
    });
    group.finish();
}

criterion_group!(benches, encode, decode);
criterion_main!(benches);
