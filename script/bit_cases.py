"""The cases of script/same_bits: models, prompts and cache specs.

Only what the command line promises is used, so that any two revisions can be
compared. Models named tiny-* are written by write_tiny_gguf; `smollm2` is
models/default.gguf.
"""

from dataclasses import dataclass, field

# What write_tiny_gguf is told; all have a vocabulary of 320.
_GEMMA3 = ["architecture=gemma3", "layers=7", "sliding_window=32",
           "head_dim=32", "kv_heads=1", "f32:rope.freq_base=1000000",
           "f32:rope.scaling.factor=8"]
_PHI3 = ["architecture=phi3", "rope_dims=12", "rope_factor_pair=1",
         "u32:rope.scaling.original_context_length=64",
         "f32:rope.scaling.attn_factor=1.25"]
TINY = {
    "tiny-llama": ["layers=4", "context_length=4096"],
    "tiny-skew": ["layers=4", "context_length=4096"],
    "tiny-q8": ["layers=4", "context_length=4096", "weight_type=8"],
    "tiny-short": ["layers=3", "context_length=256"],
    "tiny-window": ["layers=3", "context_length=2048", "sliding_window=96"],
    "tiny-qwen2": ["architecture=qwen2", "f32:rope.freq_base=1000000"],
    "tiny-qwen3": ["architecture=qwen3", "head_dim=32"],
    "tiny-gemma3": _GEMMA3,
    "tiny-gemma3-pattern": _GEMMA3 + [
        "u32:attention.sliding_window_pattern=2",
        "f32:rope.freq_base_swa=5000", "f32:final_logit_softcapping=2"],
    "tiny-gemma3-global": ["architecture=gemma3"],
    "tiny-phi3": _PHI3,
    "tiny-phi3-short": _PHI3 + [
        "u32:rope.scaling.original_context_length=256"],
    "tiny-phi3-plain": ["architecture=phi3", "sliding_window=32"],
}
VOCABULARY = 320

# (layers, KV heads) of the models that heads=profile is tried on.
PROFILES = {"tiny-llama": (4, 2), "smollm2": (30, 3)}


@dataclass
class Case:
    name: str
    model: str
    spec: str
    kind: str = "run"     # run, long, stored, questions, chat, eval
    prompt: int = 400     # tokens
    forced: int = 24      # decoded after the prompt
    sampled: int = 24     # generated after these
    flags: list = field(default_factory=list)
    quick: bool = False


PRESETS = [
    "full", "streaming-llm,keep=0.3", "h2o,keep=0.3", "snapkv,keep=0.3",
    "pyramidkv,keep=0.3", "snapkv-wide,keep=0.3", "tova,keep=0.3",
    "knorm,keep=0.3", "keydiff,keep=0.3", "expected-attention,keep=0.3",
    "chunkkv,keep=0.3", "kvzip,keep=0.3", "far-attention,keep=0.3",
    "r-kv,keep=0.3", "duo-attention,profile={profile},keep=0.5", "infinigen",
    "llama", "mistral",
]

# Each names what it adds to the presets.
TINY_SPECS = [
    # Budgets, schedules and selection.
    "snapkv,tokens=96", "snapkv,memory=100KiB", "snapkv,keep=1",
    "snapkv,keep=0.3,schedule=power", "llama,keep=0.4",
    "snapkv,keep=0.3,schedule=table,table=0:1/0.5:0.6/1:0.15",
    "snapkv,schedule=custom,budgets=200:120:80:60",
    "pyramidkv,keep=0.3,mode=reference", "pyramidkv,keep=0.3,mode=kvpress",
    "snapkv,keep=0.3,select=mixed", "snapkv,keep=0.3,select=recent",
    "snapkv,keep=0.3,heads=adaptive", "snapkv,keep=0.3,heads=global",
    "pyramidkv,keep=0.3,heads=adaptive,floor=0.5",
    "snapkv,keep=0.3,pool=max,kernel=7,reduce=max,group=sum",
    "snapkv-wide,keep=0.3,vnorm=wo", "keydiff,keep=0.3,spread=16",
    "snapkv,keep=0.3,window=1,recent=1,kernel=1,vnorm=v",
    "h2o,keep=0.3,heads=adaptive,decay=0.98,grace=8",
    "h2o,keep=0.3,variant=observed,kernel=15", "h2o,tokens=96,slack=1",
    "kvzip,keep=0.3,heads=equal,group=mean",
    # While tokens are generated.
    "pyramidkv,keep=0.3,evict=both", "snapkv,tokens=96,evict=both,slack=8",
    "snapkv-wide,keep=0.3,evict=both",
    "snapkv-wide,keep=0.3,heads=adaptive,evict=both,slack=4",
    "expected-attention,keep=0.3,heads=adaptive,vnorm=wo,evict=both,slack=8",
    "knorm,keep=0.3,evict=both,kernel=5,slack=8", "tova,tokens=64,slack=1",
    "snapkv,keep=0.3,evict=decode,slack=8", "r-kv,tokens=64,slack=8",
    # Codecs, scales and finer entries.
    "full,type=f32", "full,type=bf16", "full,type=int8", "full,type=int4",
    "full,type_k=int4,type_v=int2", "full,type=int4,recent_type=int8",
    "full,type=int8,scale=channel", "full,type=int4,scale=channel",
    "full,type=int4,scale=channel,recent_type=int8",
    "full,type=int8,scale=tensor", "full,type=int4,scale=tensor",
    "pyramidkv,keep=0.3,type=bf16", "pyramidkv,keep=0.3,type=f32",
    "pyramidkv,keep=0.3,evict=both,type=int8,slack=8",
    "snapkv,keep=0.3,heads=adaptive,type=int4",
    "snapkv-wide,keep=0.3,type_k=int4,type_v=int2",
    "snapkv,keep=0.3,type=int4,scale=channel",
    "snapkv,keep=0.3,heads=adaptive,type=int8,scale=channel",
    "pyramidkv,keep=0.3,type=int8,scale=tensor,recent_type=int8",
    "snapkv-wide,keep=0.3,top_type=int8,type=int4",
    "snapkv-wide,keep=1,type=int4,top_type=int8",
    "h2o,keep=0.3,top_type=f16,top=0.5,type_k=int4,type_v=int2",
    "h2o,keep=0.5,top_type=int8,top=0.4,type=int4,slack=4",
    # Merged entries.
    "snapkv,keep=0.3,remainder=cluster",
    "snapkv-wide,keep=0.2,heads=equal,remainder=cluster,merge=mean",
    "snapkv,keep=0.3,evict=both,remainder=cluster,merge=attention,slack=8",
    "snapkv,keep=0.3,type=int8,remainder=cluster,clusters=8",
    # Cold tier.
    "infinigen,resident=0.25", "infinigen,type=int8",
    "infinigen,index=quest,resident=0.1,victim=lru",
    "infinigen,index=cluster,fetch=0.1,alpha=3",
    "snapkv,keep=0.1,remainder=offload,resident=0.01",
    "snapkv,keep=0.25,remainder=offload,type=int4,resident=0.5,victim=fifo",
    "pyramidkv,keep=0.2,remainder=offload,evict=both,slack=8",
    "snapkv-wide,keep=0.2,remainder=offload",
    "h2o,keep=0.2,remainder=offload,type=bf16,slack=8",
]

# Of which some are tried on every architecture.
EVERY_ARCHITECTURE = [
    "full", "full,type=int8", "snapkv-wide,keep=0.3",
    "pyramidkv,keep=0.4,type=int4", "h2o,keep=0.4,slack=8",
    "expected-attention,keep=0.4", "kvzip,keep=0.4",
]

LONG_SPECS = [
    "full,prefill=streaming", "snapkv,keep=0.3,prefill=streaming",
    "pyramidkv,tokens=200,prefill=streaming,evict=both",
    "h2o,keep=0.2,prefill=streaming,type=int8",
    "streaming-llm,tokens=128,prefill=streaming",
    "snapkv-wide,keep=0.2,prefill=streaming",
    "infinigen,prefill=streaming,resident=0.2",
    "full,prefill=sparse", "snapkv-wide,keep=0.3,prefill=sparse,type=int4",
    "pyramidkv,keep=0.2,evict=both,slack=16", "full,type=int4,scale=channel",
    "far-attention,keep=0.2", "kvzip,keep=0.2,type=int8",
    "snapkv,keep=0.3,remainder=offload,type=int8,resident=0.3",
]

WINDOW_SPECS = ["full", "full,type=int4", "snapkv,keep=0.5,evict=both,slack=8",
                "streaming-llm,tokens=48", "mistral,keep=0.5"]

# Generation goes far beyond the context of 256.
RENUMBERED = [
    "streaming-llm,tokens=96,positions=renumber",
    "snapkv,tokens=96,evict=both,positions=renumber,slack=16",
    "h2o,tokens=80,positions=renumber,type_k=f32,type_v=int8",
    "pyramidkv,tokens=64,evict=both,positions=renumber,type_k=f16,type_v=int4",
]

STORED_SPECS = [
    "full", "full,type=int8", "full,type=int4,scale=channel",
    "snapkv,keep=0.3,type=int4", "snapkv-wide,keep=0.3", "kvzip,keep=0.3",
    "h2o,keep=0.3,slack=8", "expected-attention,keep=0.3",
    "snapkv,keep=0.3,heads=adaptive,evict=both,type=bf16,slack=8",
    "snapkv,keep=0.1,remainder=offload,resident=0.01",
    "infinigen,index=quest,type=int8",
    "snapkv,keep=0.3,type=int8,remainder=cluster",
    "pyramidkv,keep=0.3,type=int8,scale=tensor,recent_type=int8",
    "snapkv-wide,keep=1,type=int4,top_type=int8",
    "streaming-llm,tokens=96,positions=renumber",
    "duo-attention,profile={profile},keep=0.5",
]

SMOLLM2_SPECS = [
    "full,type=int8", "full,type=int4", "full,type_k=int4,type_v=int2",
    "full,type=bf16", "full,type=int4,scale=channel",
    "full,type=int8,scale=tensor", "snapkv-wide,keep=1,type=int4,top_type=int8",
    "pyramidkv,keep=0.3,evict=both,slack=8", "snapkv-wide,keep=0.3,vnorm=wo",
    "snapkv,keep=0.3,heads=adaptive,type=int4",
    "snapkv,keep=0.2,remainder=cluster",
    "snapkv,keep=0.25,remainder=offload,resident=0.25",
    "snapkv,memory=4MiB",
]
SMOLLM2_LONG = ["full", "snapkv-wide,keep=0.3,prefill=streaming",
                "snapkv,keep=0.3,prefill=sparse,type=int8"]

QUICK = {
    "presets/tiny-llama/h2o,keep=0.3", "presets/tiny-llama/infinigen",
    "presets/tiny-llama/pyramidkv,keep=0.3",
    "specs/tiny-llama/full,type=int4",
    "specs/tiny-llama/full,type=int8,scale=channel",
    "specs/tiny-llama/snapkv-wide,keep=0.3,top_type=int8,type=int4",
    "specs/tiny-llama/snapkv,keep=0.3,remainder=cluster",
    "specs/tiny-llama/snapkv,keep=0.1,remainder=offload,resident=0.01",
    "specs/tiny-llama/pyramidkv,keep=0.3,evict=both,type=int8,slack=8",
    "architectures/tiny-gemma3/full",
    "architectures/tiny-phi3/snapkv-wide,keep=0.3",
    "architectures/tiny-qwen3/full,type=int8",
    "long/tiny-llama/snapkv,keep=0.3,prefill=streaming",
    "window/tiny-window/full,type=int4",
    "renumbered/tiny-short/streaming-llm,tokens=96,positions=renumber",
    "stored/tiny-llama/snapkv,keep=0.3,type=int4",
    "questions/tiny-llama/kvzip,keep=0.3",
    "presets/smollm2/snapkv-wide,keep=0.3", "specs/smollm2/full,type=int8",
}


def all_cases():
    """In the order in which they are told."""
    cases = []

    def add(group, model, specs, **options):
        cases.extend(Case(f"{group}/{model}/{spec}", model, spec, **options)
                     for spec in specs)

    add("presets", "tiny-llama", PRESETS)
    add("specs", "tiny-llama", TINY_SPECS)
    add("specs", "tiny-skew", ["infinigen,index=skew"])
    add("weights", "tiny-q8", ["full", "snapkv-wide,keep=0.3,type=int8"])
    for compute in ("f32", "bf16", "int8"):
        add(f"compute-{compute}", "tiny-q8", ["full", "h2o,keep=0.3"],
            flags=["--compute", compute])
    add("threads", "tiny-llama", ["full,type=int4", "h2o,keep=0.3",
                                  "infinigen,resident=0.25"],
        flags=["-t", "3"])
    add("long", "tiny-llama", LONG_SPECS, prompt=2600)
    add("window", "tiny-window", WINDOW_SPECS, prompt=500)
    add("renumbered", "tiny-short", RENUMBERED, prompt=200, sampled=400)
    for model in TINY:
        if "architecture" in " ".join(TINY[model]):
            add("architectures", model, EVERY_ARCHITECTURE, prompt=150)
    add("stored", "tiny-llama", STORED_SPECS, kind="stored")
    add("stored", "tiny-window", ["full", "snapkv,keep=0.5"], kind="stored")
    add("stored", "tiny-gemma3", ["snapkv-wide,keep=0.3"], kind="stored",
        prompt=100, forced=8, sampled=8)
    add("questions", "tiny-llama",
        ["full", "kvzip,keep=0.3", "full,type=int4",
         "snapkv,keep=0.1,remainder=offload"], kind="questions")
    add("presets", "smollm2", PRESETS, prompt=512)
    add("specs", "smollm2", SMOLLM2_SPECS, prompt=512)
    add("long", "smollm2", SMOLLM2_LONG, prompt=1500)
    add("stored", "smollm2", ["snapkv-wide,keep=0.3", "full,type=int4"],
        kind="stored", prompt=512)
    add("questions", "smollm2", ["kvzip,keep=0.3"], kind="questions")
    add("chat", "smollm2", ["full", "pyramidkv,keep=0.3,type=int8"],
        kind="chat")
    add("eval", "smollm2", ["snapkv-wide,keep=0.3"], kind="eval")
    for case in cases:
        case.quick = case.name in QUICK
    missing = QUICK - {case.name for case in cases}
    assert not missing, missing
    return cases
