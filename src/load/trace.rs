//! Recorded arrivals, in the two shapes public traces come in. Pure: text in, arrivals out. Knows no files.
//!
//! - events: a header `func_name,invoke_time_ms`, then one line per call;
//! - minutes: a header `HashOwner,HashApp,HashFunction,Trigger,<minute>,…`, then one line per function with its calls in each
//!   minute. Where in its minute a call fell was not recorded: they are spread at random, evenly, by a seed.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::load::Error;
use crate::load::plan::{ARRIVALS_MAX, Arrival};

const EVENTS: &str = "func_name,invoke_time_ms";
const MINUTES: [&str; 4] = ["HashOwner", "HashApp", "HashFunction", "Trigger"];
const MINUTE: f64 = 60.0;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The functions' names, by the number arrivals name them with, in the order they appear.
    pub functions: Vec<String>,
    pub arrivals: Vec<Arrival>,
}

/// Reads either shape; the header says which it is.
pub fn read(text: &str, seed: u64) -> Result<Trace, Error> {
    // Numbered as people count, and without the empty line at the end.
    let mut lines = (1..)
        .zip(text.lines())
        .filter(|(_, l)| !l.trim().is_empty());
    let (line, header) = lines.next().ok_or(Error::Trace {
        line: 1,
        what: "it is empty",
    })?;
    if text.contains('"') {
        return Err(Error::Trace {
            line,
            what: "quoted fields are not understood",
        });
    }
    if header.trim() == EVENTS {
        return events(lines);
    }
    let columns: Vec<_> = header.trim().split(',').collect();
    match columns.strip_prefix(&MINUTES) {
        Some(minutes) => per_minute(minutes, lines, seed),
        None => Err(Error::Trace {
            line,
            what: "this header is of no known trace",
        }),
    }
}

fn events<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Trace, Error> {
    let mut known = HashMap::new();
    let mut trace = Trace {
        functions: Vec::new(),
        arrivals: Vec::new(),
    };
    for (line, text) in lines {
        let wrong = |what| Error::Trace { line, what };
        let (name, millis) = text
            .trim()
            .split_once(',')
            .ok_or(wrong("expected a name and a time"))?;
        let millis = millis
            .parse()
            .map_err(|_not_whole| wrong("the time is no whole number of milliseconds"))?;
        let function = *known.entry(name).or_insert_with(|| {
            trace.functions.push(name.to_owned());
            trace.functions.len() - 1
        });
        push(&mut trace.arrivals, Duration::from_millis(millis), function).map_err(wrong)?;
    }
    trace.arrivals.sort_unstable();
    Ok(trace)
}

fn per_minute<'a>(
    minutes: &[&str],
    lines: impl Iterator<Item = (usize, &'a str)>,
    seed: u64,
) -> Result<Trace, Error> {
    let wrong_header = Error::Trace {
        line: 1,
        what: "the columns after Trigger must be minutes in order",
    };
    let minutes: Vec<u32> = minutes.iter().filter_map(|m| m.parse().ok()).collect();
    // The minutes of a part of a day do not start at 0; the trace does.
    let Some(&first) = minutes.first() else {
        return Err(wrong_header);
    };
    if minutes.windows(2).any(|w| w[1] <= w[0]) {
        return Err(wrong_header);
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut trace = Trace {
        functions: Vec::new(),
        arrivals: Vec::new(),
    };
    for (line, text) in lines {
        let wrong = |what| Error::Trace { line, what };
        let fields: Vec<_> = text.trim().split(',').collect();
        if fields.len() != MINUTES.len() + minutes.len() {
            return Err(wrong("it has more or fewer fields than the header"));
        }
        let function = trace.functions.len();
        trace.functions.push(fields[2].to_owned());
        for (minute, calls) in minutes.iter().zip(&fields[MINUTES.len()..]) {
            let calls: u32 = calls
                .parse()
                .map_err(|_not_whole| wrong("a count is no whole number"))?;
            for _ in 0..calls {
                let seconds = (f64::from(minute - first) + random.random::<f64>()) * MINUTE;
                push(
                    &mut trace.arrivals,
                    Duration::from_secs_f64(seconds),
                    function,
                )
                .map_err(wrong)?;
            }
        }
    }
    trace.arrivals.sort_unstable();
    Ok(trace)
}

fn push(arrivals: &mut Vec<Arrival>, at: Duration, function: usize) -> Result<(), &'static str> {
    if arrivals.len() >= ARRIVALS_MAX {
        return Err("it has more calls than a plan may have");
    }
    arrivals.push(Arrival { at, function });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_as_they_are() {
        let trace = read("func_name,invoke_time_ms\nb,51\na,6\nb,1000\n\n", 0).expect("a trace");
        assert_eq!(trace.functions, ["b", "a"]);
        let arrivals: Vec<_> = trace
            .arrivals
            .iter()
            .map(|a| (a.at.as_millis(), a.function))
            .collect();
        assert_eq!(arrivals, [(6, 1), (51, 0), (1000, 0)]);
    }

    #[test]
    fn minutes_keep_their_counts_and_start_at_zero() {
        let text = "HashOwner,HashApp,HashFunction,Trigger,480,481,483\n\
                    o,p,f,timer,2,0,1\n\
                    o,p,g,http,0,40,0\n";
        let trace = read(text, 7).expect("a trace");
        assert_eq!(trace.functions, ["f", "g"]);
        let within = |function, from: u64, to: u64| {
            let of = trace.arrivals.iter().filter(|a| a.function == function);
            of.filter(|a| (from..to).contains(&a.at.as_secs())).count()
        };
        assert_eq!((within(0, 0, 60), within(0, 60, 180)), (2, 0));
        assert_eq!((within(0, 180, 240), within(1, 60, 120)), (1, 40));
        assert_eq!(trace.arrivals.len(), 43);
        assert!(trace.arrivals.is_sorted());
        // Spread, and by the seed alone.
        assert!(within(1, 60, 90) > 5 && within(1, 90, 120) > 5);
        assert_eq!(trace, read(text, 7).expect("a trace"));
        assert_ne!(trace, read(text, 8).expect("a trace"));
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        let refused = |text: &str| match read(text, 0) {
            Err(Error::Trace { line, .. }) => line,
            other => unreachable!("{other:?}"),
        };
        assert_eq!(refused(""), 1);
        assert_eq!(refused("name,time\na,1\n"), 1);
        assert_eq!(refused("func_name,invoke_time_ms\na,1\nb,soon\n"), 3);
        assert_eq!(refused("func_name,invoke_time_ms\nb\n"), 2);
        assert_eq!(refused("func_name,invoke_time_ms\n\"a\",1\n"), 1);
        let head = "HashOwner,HashApp,HashFunction,Trigger";
        assert_eq!(refused(&format!("{head}\no,p,f,t\n")), 1);
        assert_eq!(refused(&format!("{head},2,1\no,p,f,t,1,1\n")), 1);
        assert_eq!(refused(&format!("{head},1,2\no,p,f,t,1\n")), 2);
        assert_eq!(refused(&format!("{head},1\no,p,f,t,-1\n")), 2);
        assert_eq!(refused(&format!("{head},1\no,p,f,t,99999999\n")), 2);
    }
}
