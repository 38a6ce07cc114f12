//! Governed files contain exactly what a view shows of a source file; otherwise there is no file, and a reason.

mod equality;
mod faults;
mod foreign;
mod layout;
mod limits;
mod mixing;
mod naming;
mod sample;
mod statistics;
mod subjects;
mod types;
