"""Run a chapter's exercise checks in one process: set-up once, then each variant in a fork of its own.

Standard input: JSON {"setup": [code...], "variants": {name: [code...]}}; standard output: JSON {name: error or null}.
"""

import json
import os
import sys
import tempfile

os.environ.setdefault("TRITON_INTERPRET", "1")


def run(shell, cells):
    """The first error of the cells, as text; None where there is none."""
    for code in cells:
        result = shell.run_cell(code, silent=True, store_history=True)
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            return f"{type(error).__name__}: {error}"
    return None


def main():
    from IPython.core.interactiveshell import InteractiveShell

    job = json.load(sys.stdin)
    answers, out = {}, os.dup(1)
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["IPYTHONDIR"] = folder
        shell = InteractiveShell.instance()
        error = run(shell, job["setup"])
        if error:
            answers["setup"] = error
        for name, cells in {} if error else job["variants"].items():
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(writer, json.dumps(run(shell, cells)).encode()[:60000])
                os._exit(0)
            os.close(writer)
            with os.fdopen(reader, "rb") as pipe:
                said = pipe.read()
            os.waitpid(child, 0)
            answers[name] = json.loads(said) if said else "the process died"
    os.write(out, json.dumps(answers).encode())


if __name__ == "__main__":
    main()
