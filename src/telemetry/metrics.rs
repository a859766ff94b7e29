//! One function per metric; the only place with metric names in it.

/// One call to the container engine has ended.
pub fn engine_call(operation: &'static str, seconds: f64, ok: bool) {
    let outcome = if ok { "ok" } else { "error" };
    metrics::histogram!("hearth_engine_call_seconds", "operation" => operation, "outcome" => outcome)
        .record(seconds);
}

/// A call to the container engine failed; `reason` is timeout, unreachable or refused.
pub fn engine_error(operation: &'static str, reason: &'static str) {
    metrics::counter!("hearth_engine_errors_total", "operation" => operation, "reason" => reason)
        .increment(1);
}
