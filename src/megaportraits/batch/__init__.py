"""Many animations in one run: job lists (jobs, cells), records of finished jobs, one job (work), the run."""

from megaportraits.batch.jobs import Job, find_jobs, read_list
from megaportraits.batch.run import BatchReport, run_jobs
from megaportraits.batch.work import Model, Outcome

__all__ = ["BatchReport", "Job", "Model", "Outcome", "find_jobs", "read_list", "run_jobs"]
