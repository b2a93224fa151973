"""LiteRT with its own optimised kernels: its interpreter without XNNPACK."""

from ai_edge_litert import interpreter

OpResolverType = interpreter.OpResolverType


class Interpreter(interpreter.Interpreter):
    """Applies no delegate unless it is told which kernels to use."""

    def __init__(self, model_path, **options):
        options.setdefault(
            "experimental_op_resolver_type", OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        super().__init__(model_path, **options)
