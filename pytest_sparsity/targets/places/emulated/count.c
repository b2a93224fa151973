/* Counts, inside QEMU user mode, the guest instructions that one library executes between marks.
 *
 * QEMU loads this as a TCG plugin. A mark is close(0x5a5a5a) by the guest: no such descriptor is
 * ever open, so the call fails without effect, with or without the plugin. At every mark one line
 *
 *     mark TOTAL
 *
 * is written to out=FILE: the instructions executed in the library since the start. To blocks=FILE,
 * if given, goes what ran since the previous mark, one line per translated block, and then "mark":
 *
 *     OFFSET INSTRUCTIONS             (OFFSET of the block in the library's file, hexadecimal)
 *
 * The library is the one whose path contains library=TEXT. What lies in the ranges of except=FILE,
 * lines "OFFSET SIZE" in hexadecimal, is not counted.
 *
 * The interface is QEMU's plugin API version 1 (QEMU 4.2 to 8.2), declared by hand from its
 * documentation because distributions package no header. Every block has one counter that the
 * translated code increments itself, without a lock: exact for one guest thread, not for several.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct {
    const char *target_name;
    struct {
        int min, cur;
    } version;
} qemu_info; /* the head of qemu_info_t */
typedef void (*translated)(plugin_id, struct qemu_plugin_tb *);
typedef void (*entered_syscall)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
enum { ADD_U64 = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, entered_syscall);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *);

int qemu_plugin_version = 1;

enum { MARK = 0x5a5a5a, PAGE = 4096, LONGEST = 15 /* bytes, of an x86 instruction */ };

struct block {
    struct block *next;
    uint64_t offset;       /* into the library's file */
    uint64_t size;         /* instructions in the block, without a doubtful last one */
    uint64_t runs, last_runs; /* executions of the block and of a doubtful last instruction */
    uint64_t before;       /* instructions executed up to the previous mark */
};

struct mapping {
    struct mapping *next;
    uint64_t start, end, offset;
    bool counted;
};

struct range {
    struct range *next;
    uint64_t offset, size;
};

static struct block *blocks;
static struct range *excepted;
static struct mapping *mappings;
static const char *library = "";
static int64_t close_number;
static FILE *out, *out_blocks;

/* A plugin cannot go on without memory, nor tell QEMU so. */
static void *allocate(size_t size) {
    void *memory = calloc(1, size);
    if (!memory)
        abort();
    return memory;
}

/* The mapping of this process that holds a host address: where guest code was loaded from. */
static const struct mapping *mapping_of(uint64_t address) {
    for (struct mapping *m = mappings; m; m = m->next)
        if (m->start <= address && address < m->end)
            return m;
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[4400];
    struct mapping *found = NULL;
    while (maps && !found && fgets(line, sizeof line, maps)) {
        uint64_t start, end, offset;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64, &start, &end, &offset) != 3)
            continue;
        if (address < start || end <= address)
            continue;
        found = allocate(sizeof *found);
        *found = (struct mapping){mappings, start, end, offset, strstr(line, library) != NULL};
        mappings = found;
    }
    if (maps)
        fclose(maps);
    return found;
}

static bool is_excepted(uint64_t offset) {
    for (struct range *r = excepted; r; r = r->next)
        if (r->offset <= offset && offset < r->offset + r->size)
            return true;
    return false;
}

static bool read_excepted(const char *path) {
    FILE *file = fopen(path, "r");
    uint64_t offset, size;
    while (file && fscanf(file, "%" SCNx64 " %" SCNx64, &offset, &size) == 2) {
        struct range *range = allocate(sizeof *range);
        *range = (struct range){excepted, offset, size};
        excepted = range;
    }
    if (file)
        fclose(file);
    return file != NULL;
}

static void on_translation(plugin_id id, struct qemu_plugin_tb *tb) {
    (void)id;
    uint64_t address = (uintptr_t)qemu_plugin_insn_haddr(qemu_plugin_tb_get_insn(tb, 0));
    const struct mapping *mapping = mapping_of(address);
    if (!mapping || !mapping->counted)
        return; /* everything else runs without instrumentation, at full speed */
    uint64_t offset = address - mapping->start + mapping->offset;
    if (is_excepted(offset))
        return;
    struct block *block = allocate(sizeof *block);
    block->next = blocks;
    block->offset = offset;
    block->size = qemu_plugin_tb_n_insns(tb);
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &block->runs, 1);
    /* QEMU ends an x86 block before an instruction that lies across two pages and begins the next
     * block with it, but has shown it to the plugin in the first one too (7.2). A counter of its
     * own is exact, since it goes the way of the instruction's code. */
    struct qemu_plugin_insn *last = qemu_plugin_tb_get_insn(tb, block->size - 1);
    if (block->size > 1 && qemu_plugin_insn_vaddr(last) % PAGE + LONGEST > PAGE) {
        block->size--;
        qemu_plugin_register_vcpu_insn_exec_inline(last, ADD_U64, &block->last_runs, 1);
    }
}

static uint64_t executed(const struct block *block) {
    return block->runs * block->size + block->last_runs;
}

static void on_syscall(plugin_id id, unsigned cpu, int64_t number, uint64_t descriptor, uint64_t a2,
                       uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7,
                       uint64_t a8) {
    (void)id, (void)cpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != close_number || (uint32_t)descriptor != MARK)
        return;
    uint64_t total = 0;
    for (struct block *b = blocks; b; b = b->next) {
        uint64_t now = executed(b);
        if (out_blocks && now > b->before)
            fprintf(out_blocks, "%" PRIx64 " %" PRIu64 "\n", b->offset, now - b->before);
        b->before = now;
        total += now;
    }
    if (out_blocks) {
        fprintf(out_blocks, "mark\n");
        fflush(out_blocks);
    }
    fprintf(out, "mark %" PRIu64 "\n", total);
    fflush(out);
}

int qemu_plugin_install(plugin_id id, const qemu_info *info, int argc, char **argv) {
    bool readable = true;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "w");
        else if (!strncmp(argv[i], "library=", 8))
            library = strdup(argv[i] + 8); /* QEMU frees the arguments */
        else if (!strncmp(argv[i], "blocks=", 7))
            out_blocks = fopen(argv[i] + 7, "w");
        else if (!strncmp(argv[i], "except=", 7))
            readable = read_excepted(argv[i] + 7);
    }
    if (!out || !readable) {
        fprintf(stderr, "the counting plugin cannot open its files\n");
        return 1;
    }
    close_number = !strcmp(info->target_name, "x86_64") ? 3 : 57; /* 57: aarch64 */
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    return 0;
}
