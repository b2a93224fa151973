"""The standard claims about two files that somebody has, without a line of code.

    pytest --pyargs pytest_sparsity.suite --sparsity-dense=D.tflite --sparsity-sparse=S.tflite

D is the network as it was trained, S the same one pruned and stored sparsely. `--sparsity-target`,
repeatable, says where; thresholds are flags too. With `-k "not faster"` and the like any claim is
left out.
"""
