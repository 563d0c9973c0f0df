//! `Crontab`: the core's crontab, with Python's time zones.

use pyo3::prelude::*;
use taskcore::beat::{Crontab as Core, field};

use crate::errors;

/// A crontab expression; frozen.
#[pyclass(frozen, module = "taskcore._core")]
pub(crate) struct Crontab(Core);

#[pymethods]
#[allow(clippy::needless_pass_by_value)] // PyO3 hands over what it has made
impl Crontab {
    #[new]
    fn new(
        py: Python<'_>,
        minutes: Vec<u32>,
        hours: Vec<u32>,
        weekdays: Vec<u32>,
        days: Vec<u32>,
        months: Vec<u32>,
    ) -> PyResult<Self> {
        let core = Core::new(&minutes, &hours, &weekdays, &days, &months);
        core.map(Self).map_err(|e| errors::argument(py, &e))
    }

    fn next_after(&self, after: i64, offset: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
        let mut raised = None;
        let next = self.0.next_after(after, &mut |instant| {
            let answer = offset.call1((instant,)).and_then(|answer| answer.extract());
            answer.unwrap_or_else(|error| {
                raised = Some(error);
                0
            })
        });
        raised.map_or(Ok(next), Err)
    }

    #[staticmethod]
    fn parse(
        py: Python<'_>,
        spec: &str,
        count: u32,
        first: u32,
    ) -> PyResult<(Vec<u32>, Vec<String>)> {
        let parsed = field::parse(spec, count, first).map_err(|e| errors::argument(py, &e))?;
        Ok((parsed.numbers, parsed.doubts))
    }
}
