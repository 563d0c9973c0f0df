//! Metrics as text, in the format of Prometheus (0.0.4) or as `OpenMetrics` (1.0.0).
//!
//! Both are the same but for how a counter is announced, the type of what only has labels, and the
//! last line. Pure.

use std::fmt::{Display, Write};

use crate::worker::metrics::{BOUNDS_US, Histogram};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows. Its name ends with `_total`.
    Counter,
    /// How many lasted how long. Its name ends with its unit.
    Histogram,
    /// Labels alone. Its name ends with `_info`.
    Info,
}

/// A metric by its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// One sentence without a full stop.
    pub(super) help: &'static str,
}

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// What is written.
pub(super) struct Text {
    out: String,
    open_metrics: bool,
    name: &'static str,
}

impl Text {
    pub(super) fn new(open_metrics: bool) -> Self {
        Self { out: String::with_capacity(16 << 10), open_metrics, name: "" }
    }

    /// Announces a metric; its samples follow.
    pub(super) fn family(&mut self, family: Family) -> &mut Self {
        let Family { name, kind, help } = family;
        let (announced, kind) = match (kind, self.open_metrics) {
            (Kind::Gauge, _) | (Kind::Info, false) => (name, "gauge"),
            (Kind::Counter, false) => (name, "counter"),
            (Kind::Counter, true) => (name.strip_suffix("_total").unwrap_or(name), "counter"),
            (Kind::Histogram, _) => (name, "histogram"),
            (Kind::Info, true) => (name.strip_suffix("_info").unwrap_or(name), "info"),
        };
        self.name = name;
        self.put(&format_args!("# HELP {announced} {help}\n# TYPE {announced} {kind}\n"));
        self
    }

    /// One sample of the metric that was announced last.
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) -> &mut Self {
        self.line("", labels, None, &value);
        self
    }

    /// A sample, if there is one.
    pub(super) fn maybe(&mut self, value: Option<impl Display>) -> &mut Self {
        if let Some(value) = value {
            self.sample(&[], value);
        }
        self
    }

    /// The samples of a histogram.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let mut below = 0;
        for (bound, count) in BOUNDS_US.iter().zip(histogram.counts) {
            below += count;
            // With a point in both formats, so that it is one series in both.
            let bound = format!("{:?}", seconds(*bound));
            self.line("_bucket", labels, Some(&bound), &below);
        }
        self.line("_bucket", labels, Some("+Inf"), &histogram.count());
        self.line("_count", labels, None, &histogram.count());
        self.line("_sum", labels, None, &seconds(histogram.sum_us));
    }

    /// All of it.
    pub(super) fn finish(mut self) -> String {
        if self.open_metrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: &dyn Display) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let mut mark = '{';
        for (name, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.put(&format_args!("{mark}{name}=\""));
            escape(&mut self.out, value);
            self.out.push('"');
            mark = ',';
        }
        if mark == ',' {
            self.out.push('}');
        }
        self.put(&format_args!(" {value}\n"));
    }

    fn put(&mut self, text: &dyn Display) {
        let _ = write!(self.out, "{text}"); // a String takes everything
    }
}

/// Seconds of so many microseconds.
pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: Family = Family { name: "a_b_total", kind: Kind::Counter, help: "Help" };
    const SAID: Family = Family { name: "a_info", kind: Kind::Info, help: "Help" };

    fn written(open_metrics: bool) -> String {
        let mut text = Text::new(open_metrics);
        text.family(COUNT).sample(&[("t", "a\"b\\c\nd"), ("s", "x")], 3);
        text.family(SAID).sample(&[], 1).maybe(None::<u64>);
        text.finish()
    }

    #[test]
    fn both_formats_announce_what_they_show() {
        let sample = "a_b_total{t=\"a\\\"b\\\\c\\nd\",s=\"x\"} 3\n";
        let prometheus = format!(
            "# HELP a_b_total Help\n# TYPE a_b_total counter\n{sample}# HELP a_info Help\n# TYPE a_info gauge\na_info 1\n"
        );
        assert_eq!(written(false), prometheus);
        let open = format!(
            "# HELP a_b Help\n# TYPE a_b counter\n{sample}# HELP a Help\n# TYPE a info\na_info 1\n# EOF\n"
        );
        assert_eq!(written(true), open);
    }

    #[test]
    fn the_buckets_of_a_histogram_are_sums() {
        let mut histogram = Histogram::default();
        for us in [1, 1_000, 1_001, 4_000_000_000] {
            histogram.add(us);
        }
        let mut text = Text::new(false);
        text.family(Family { name: "s", kind: Kind::Histogram, help: "" });
        text.histogram(&[("t", "x")], &histogram);
        let text = text.finish();
        for line in [
            "s_bucket{t=\"x\",le=\"0.001\"} 2\n",
            "s_bucket{t=\"x\",le=\"0.005\"} 3\n",
            "s_bucket{t=\"x\",le=\"3600.0\"} 3\n",
            "s_bucket{t=\"x\",le=\"+Inf\"} 4\n",
            "s_count{t=\"x\"} 4\n",
            "s_sum{t=\"x\"} 4000.002002\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
