"""The fourth reader of `@numeric` functions: straight-line C++ that works on many particles at once.

`values` are symbolic numbers, vectors and matrices: a source that is run on them leaves its operations in a `graph`,
where what is computed twice is one node and what is known beforehand is no node. `reverse` adds the operations of its
derivative to the same graph, `emit` writes it down in vector types of the compiler, and `words` is the mathematics that
such types lack. An `if` in a source is explored on both sides; each side runs only where some particle needs it, and
which particles share a vector has no influence on the result of any.
"""
