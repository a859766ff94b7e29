//! What a scrape is answered with: Prometheus's text, which everybody reads, or its protobuf, which native histograms need. Both are written of the
//! same messages, those of `io.prometheus.client`; of them what is used here.

use std::fmt::Write;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub help: Option<String>,
    #[prost(enumeration = "Kind", optional, tag = "3")]
    pub r#type: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    pub metric: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Value>,
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct LabelPair {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// A counter's or a gauge's.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Value {
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    pub schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    pub zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    pub zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    pub positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub positive_delta: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    pub cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub upper_bound: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    pub offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    pub length: Option<u32>,
}

/// What is measured of one thing.
#[derive(Debug)]
pub enum Measured {
    Counter(u64),
    Gauge(f64),
    Histogram(Histogram),
}

impl MetricFamily {
    pub fn counters(name: &str, help: &str) -> Self {
        Self::new(name, help, Kind::Counter)
    }

    pub fn gauges(name: &str, help: &str) -> Self {
        Self::new(name, help, Kind::Gauge)
    }

    pub fn histograms(name: &str, help: &str) -> Self {
        Self::new(name, help, Kind::Histogram)
    }

    fn new(name: &str, help: &str, kind: Kind) -> Self {
        Self {
            name: Some(name.into()),
            help: (!help.is_empty()).then(|| help.into()),
            r#type: Some(kind.into()),
            metric: Vec::new(),
        }
    }

    pub fn add<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        measured: Measured,
    ) {
        let pair = |(name, value): (&str, &str)| LabelPair {
            name: Some(name.into()),
            value: Some(value.into()),
        };
        let mut metric = Metric {
            label: labels.into_iter().map(pair).collect(),
            ..Metric::default()
        };
        let value = |value| Some(Value { value: Some(value) });
        match measured {
            Measured::Counter(count) => metric.counter = value(count as f64),
            Measured::Gauge(gauge) => metric.gauge = value(gauge),
            Measured::Histogram(histogram) => metric.histogram = Some(histogram),
        }
        self.metric.push(metric);
    }
}

/// How a scrape is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    Protobuf,
}

impl Format {
    /// What a scraper wants more, by the values of its Accept. Prometheus asks for protobuf first if it takes native histograms.
    pub fn wanted<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut protobuf, mut text) = (0.0, 0.0);
        for range in accept.into_iter().flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let (mut weight, mut message, mut delimited) = (1.0, false, false);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "proto" => message = value.trim() == "io.prometheus.client.MetricFamily",
                    "encoding" => delimited = value.trim() == "delimited",
                    _ => {}
                }
            }
            if media.eq_ignore_ascii_case("application/vnd.google.protobuf") {
                // It has other messages, and other ways to write several.
                if message && delimited {
                    protobuf = weight;
                }
            } else if media.eq_ignore_ascii_case("text/plain") {
                text = weight;
            }
        }
        if protobuf > text {
            Self::Protobuf
        } else {
            Self::Text
        }
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    pub fn write(self, families: &[MetricFamily]) -> Vec<u8> {
        match self {
            Self::Text => text(families).into_bytes(),
            Self::Protobuf => {
                let mut page = Vec::new();
                for family in families.iter().filter(|family| !family.metric.is_empty()) {
                    let written = family.encode_length_delimited(&mut page);
                    written.expect("a vector takes all");
                }
                page
            }
        }
    }
}

fn text(families: &[MetricFamily]) -> String {
    let mut page = String::new();
    for family in families {
        let name = family.name();
        if let Some(help) = &family.help {
            let help = help.replace('\\', r"\\").replace('\n', r"\n");
            line(&mut page, format_args!("# HELP {name} {help}"));
        }
        let kind = match family.r#type() {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        line(&mut page, format_args!("# TYPE {name} {kind}"));
        for metric in &family.metric {
            let labels = labels(&metric.label);
            if let Some(histogram) = &metric.histogram {
                let comma = if labels.is_empty() { "" } else { "," };
                for bucket in &histogram.bucket {
                    let (le, count) = (number(bucket.upper_bound()), bucket.cumulative_count());
                    line(
                        &mut page,
                        format_args!("{name}_bucket{{{labels}{comma}le=\"{le}\"}} {count}"),
                    );
                }
                let (sum, count) = (histogram.sample_sum(), histogram.sample_count());
                let labels = braced(&labels);
                line(&mut page, format_args!("{name}_sum{labels} {sum}"));
                line(&mut page, format_args!("{name}_count{labels} {count}"));
            } else if let Some(value) = metric.counter.or(metric.gauge) {
                let (labels, value) = (braced(&labels), number(value.value()));
                line(&mut page, format_args!("{name}{labels} {value}"));
            }
        }
        page.push('\n');
    }
    page
}

fn line(page: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(page, "{line}").expect("a text takes all");
}

/// As Go writes and reads them.
fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}

fn braced(labels: &str) -> String {
    if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    }
}

fn labels(labels: &[LabelPair]) -> String {
    let pair = |label: &LabelPair| {
        let value = label.value().replace('\\', r"\\");
        let value = value.replace('"', r#"\""#).replace('\n', r"\n");
        format!("{}=\"{value}\"", label.name())
    };
    labels.iter().map(pair).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use metrics::HistogramFn;

    use super::*;
    use crate::telemetry::histogram::Times;

    fn families() -> Vec<MetricFamily> {
        let times = Times::default();
        for millis in [100, 500, 700, 2_200] {
            times.record(f64::from(millis) / 1_000.0);
        }
        let mut counter = MetricFamily::counters("c_total", "Some\nof \\.");
        counter.add([("f", "a \"b\"\n\\"), ("k", "c")], Measured::Counter(3));
        counter.add([], Measured::Counter(0));
        let mut gauge = MetricFamily::gauges("g", "");
        gauge.add([], Measured::Gauge(0.5));
        gauge.add([("of", "none")], Measured::Gauge(f64::INFINITY));
        let mut histogram = MetricFamily::histograms("h_seconds", "Times.");
        histogram.add([("f", "x")], Measured::Histogram(times.shown()));
        histogram.add([], Measured::Histogram(times.shown()));
        vec![counter, gauge, histogram]
    }

    #[test]
    fn a_page_is_what_is_scraped() {
        let page = Format::Text.write(&families());
        let page = String::from_utf8(page).expect("is text");
        // Of buckets some, which are at both ends.
        let some = |line: &&str| {
            !line.contains("_bucket")
                || ["\"0.0001\"", "\"1\"", "+Inf"]
                    .iter()
                    .any(|le| line.contains(le))
        };
        let lines: Vec<_> = page.lines().filter(some).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        # HELP c_total Some\nof \\.
        # TYPE c_total counter
        c_total{f="a \"b\"\n\\",k="c"} 3
        c_total 0

        # TYPE g gauge
        g 0.5
        g{of="none"} +Inf

        # HELP h_seconds Times.
        # TYPE h_seconds histogram
        h_seconds_bucket{f="x",le="0.0001"} 0
        h_seconds_bucket{f="x",le="1"} 3
        h_seconds_bucket{f="x",le="+Inf"} 4
        h_seconds_sum{f="x"} 3.5
        h_seconds_count{f="x"} 4
        h_seconds_bucket{le="0.0001"} 0
        h_seconds_bucket{le="1"} 3
        h_seconds_bucket{le="+Inf"} 4
        h_seconds_sum 3.5
        h_seconds_count 4
        "#);
    }

    #[test]
    fn the_other_page_has_the_same_and_native_histograms() {
        let page = Format::Protobuf.write(&families());
        let (mut rest, mut read) = (page.as_slice(), Vec::new());
        while !rest.is_empty() {
            read.push(MetricFamily::decode_length_delimited(&mut rest).expect("is whole"));
        }
        assert_eq!(read, families());
        let histogram = read[2].metric[0].histogram.as_ref().expect("is one");
        assert_eq!(histogram.schema, Some(3));
        assert_eq!(histogram.positive_delta, [1, 0, 0, 0]);
        // A counter that is zero is there.
        assert_eq!(read[0].metric[1].counter, Some(Value { value: Some(0.0) }));
    }

    /// Number and type of each field, as `metrics.proto` has them.
    #[test]
    fn the_other_page_is_what_prometheus_reads() {
        let mut family = MetricFamily::histograms("h", "?");
        let histogram = Histogram {
            sample_count: Some(3),
            sample_sum: Some(2.0),
            bucket: vec![Bucket {
                cumulative_count: Some(1),
                upper_bound: Some(2.0),
            }],
            schema: Some(-1),
            zero_threshold: Some(2.0),
            zero_count: Some(1),
            positive_span: vec![BucketSpan {
                offset: Some(-2),
                length: Some(2),
            }],
            positive_delta: vec![1, -1],
        };
        family.add([("l", "v")], Measured::Histogram(histogram));
        let two = b"\0\0\0\0\0\0\0\x40";
        let histogram = [
            b"\x08\x03\x11",
            two.as_slice(),
            b"\x1a\x0b\x08\x01\x11",
            two,
            // Signed ones are folded: -1 is 1, -2 is 3, and 1 is 2.
            b"\x28\x01\x31",
            two,
            b"\x38\x01\x62\x04\x08\x03\x10\x02\x68\x02\x68\x01",
        ]
        .concat();
        let metric = [
            b"\x0a\x06\x0a\x01l\x12\x01v\x3a".as_slice(),
            &[histogram.len() as u8],
            &histogram,
        ]
        .concat();
        let family_is = [
            b"\x0a\x01h\x12\x01?\x18\x04\x22".as_slice(),
            &[metric.len() as u8],
            &metric,
        ]
        .concat();
        let page = [&[family_is.len() as u8], family_is.as_slice()].concat();
        assert_eq!(Format::Protobuf.write(&[family]), page);
        let mut counter = MetricFamily::counters("c", "");
        counter.add([], Measured::Counter(2));
        let mut gauge = MetricFamily::gauges("g", "");
        gauge.add([], Measured::Gauge(2.0));
        let value = |kind: &[u8], field: &[u8]| {
            [b"\x12\x0a\x01", kind, b"\x22\x0b", field, b"\x09\x09", two].concat()
        };
        let page = [value(b"c\x18\x00", b"\x1a"), value(b"g\x18\x01", b"\x12")].concat();
        assert_eq!(Format::Protobuf.write(&[counter, gauge]), page);
    }

    #[test]
    fn who_wants_protobuf_more_has_it() {
        const PROTOBUF: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let text = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accepted, wanted) in [
            (format!("{PROTOBUF},{text}"), Format::Protobuf),
            (format!("{PROTOBUF};q=0.6,{text}"), Format::Protobuf),
            (format!("{PROTOBUF};q=0.4,{text}"), Format::Text),
            (format!("{PROTOBUF};q=none"), Format::Text),
            (PROTOBUF.replace("delimited", "text"), Format::Text),
            (PROTOBUF.replace("client.", "other."), Format::Text),
            (PROTOBUF.replace(';', " ; "), Format::Protobuf),
            (text.into(), Format::Text),
            ("*/*".into(), Format::Text),
            (String::new(), Format::Text),
        ] {
            assert_eq!(Format::wanted([accepted.as_str()]), wanted, "{accepted}");
        }
        assert_eq!(Format::wanted([text, PROTOBUF]), Format::Protobuf);
        assert_eq!(Format::wanted([]), Format::Text);
    }
}
