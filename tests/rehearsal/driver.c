/* A driver for CUDA that runs nothing, in place of NVIDIA's libcuda.so.1: the host's side of everything goes its real
 * way, on a machine without a card. It plays one H100.
 *
 * Real are memory, copies, fills and events, streams and their order, graphs, contexts, and the rules of recording.
 * Kernels are loaded and launched, and do nothing. It is as lazy as a driver may be: what is queued on a stream happens
 * when somebody waits for it, and no sooner; so who reads without having waited reads what was there before. Memory is
 * filled with zeros when it is made, and reading what was freed ends the process.
 *
 * Every call that matters is one line of the file that REHEARSAL_LOG names: thread, name, key=value ... A call against
 * the rules is a line "refused", and gets the error that NVIDIA's driver gives. Only what is needed is here; any other
 * function of the driver answers CUDA_ERROR_NOT_SUPPORTED, with a line "missing".
 *
 * No header of CUDA's is needed: the few types and numbers are declared as the driver's interface fixes them.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

typedef enum {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_CONTEXT = 201,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  CAPTURE_UNSUPPORTED = 900,
  CAPTURE_INVALIDATED = 901,
  CAPTURE_IMPLICIT = 906,
  CAPTURE_WRONG_THREAD = 908,
  NOT_SUPPORTED = 801,
} Result;

static const struct { Result code; const char *name; } NAMES[] = {
  {SUCCESS, "CUDA_SUCCESS"},
  {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
  {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
  {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
  {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
  {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
  {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"},
  {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"},
  {CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"},
  {CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD"},
  {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"},
};
enum { KNOWN = sizeof NAMES / sizeof NAMES[0] };

static Result text_of(Result code, const char **text) {
  for (int i = 0; i < KNOWN; i++)
    if (NAMES[i].code == code) return *text = NAMES[i].name, SUCCESS;
  return *text = NULL, INVALID_VALUE;
}

/* One call at a time, and its line in the log ---------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *lines;

static int enter(void) { return pthread_mutex_lock(&lock); }
static void leave(int *held) { (void)held; pthread_mutex_unlock(&lock); }
#define ALONE __attribute__((cleanup(leave), unused)) int held = enter() /* until the end of the block */

static long thread(void) {
  static __thread long number;
  return number ? number : (number = syscall(SYS_gettid));
}

static void note(const char *format, ...) {
  if (!lines) return;
  va_list values;
  va_start(values, format);
  fprintf(lines, "%ld ", thread());
  vfprintf(lines, format, values);
  fputc('\n', lines);
  fflush(lines);
  va_end(values);
}

static Result refused(const char *call, Result code) {
  const char *name;
  text_of(code, &name);
  note("refused call=%s error=%s", call, name);
  return code;
}

/* What there is ---------------------------------------------------------------------------------------------------- */

typedef struct Memory { struct Memory *next; char *at; size_t bytes; int host; } Memory;
typedef struct Event { double seconds; } Event;
typedef enum { LAUNCH, COPY, FILL, MARK } Kind;

typedef struct Work { /* something that was queued */
  struct Work *next;
  Kind kind;
  char *to;
  const char *from;
  void *own; /* a copy of what was to be copied, where that need not stay as it is */
  size_t bytes;
  uint32_t value;
  Event *event;
} Work;

typedef struct { Work *first, **last; int count; } Queue;

enum Mode { GLOBAL, THREAD_LOCAL, RELAXED };

typedef struct Stream {
  struct Stream *next;
  unsigned flags; /* 1: waits for no other */
  Queue queue;
  int recording, spoilt;
  enum Mode mode;
  long recorder;
  Queue recorded;
} Stream;

static Memory *memories;
static Stream legacy, *streams = &legacy; /* legacy: the default stream, which waits for others and they for it */
static __thread int contexts; /* how often the one context was pushed by this thread */
static char context;
__attribute__((visibility("default"))) size_t card_bytes = 80ull << 30; /* of the card's memory; tests make it small */
static size_t used;

static void clear(Queue *queue) { *queue = (Queue){NULL, NULL, 0}; }

static void append(Queue *queue, Work work) {
  Work *kept = malloc(sizeof *kept);
  *kept = work;
  kept->next = NULL;
  if (!queue->first) queue->last = &queue->first;
  *queue->last = kept;
  queue->last = &kept->next;
  queue->count++;
}

static void forget(Queue *queue) {
  for (Work *work = queue->first, *next; work; work = next) {
    next = work->next;
    free(work->own);
    free(work);
  }
  clear(queue);
}

static void perform(Stream *stream) {
  for (Work *work = stream->queue.first; work; work = work->next) {
    struct timespec now;
    switch (work->kind) {
    case LAUNCH: break; /* nothing is run */
    case COPY: memcpy(work->to, work->from, work->bytes); break;
    case FILL: for (size_t i = 0; i < work->bytes / 4; i++) ((uint32_t *)work->to)[i] = work->value; break;
    case MARK:
      clock_gettime(CLOCK_MONOTONIC, &now);
      work->event->seconds = now.tv_sec + 1e-9 * now.tv_nsec;
    }
  }
  forget(&stream->queue);
}

static void perform_all(void) { for (Stream *stream = streams; stream; stream = stream->next) perform(stream); }

static void perform_blocking(void) { /* what the default stream waits for */
  for (Stream *stream = streams; stream; stream = stream->next)
    if (!(stream->flags & 1)) perform(stream);
}

static Memory *memory_of(const void *at, size_t bytes) {
  for (Memory *memory = memories; memory; memory = memory->next)
    if ((const char *)at >= memory->at && (const char *)at + bytes <= memory->at + memory->bytes) return memory;
  return NULL;
}

static Stream *stream_of(void *handle) {
  if ((uintptr_t)handle <= 1) return &legacy; /* 1: CU_STREAM_LEGACY */
  for (Stream *stream = streams; stream; stream = stream->next)
    if (stream == handle) return stream;
  return NULL;
}

/* The rules of recording ------------------------------------------------------------------------------------------- */

static int spoil(int (*which)(const Stream *)) {
  int found = 0;
  for (Stream *stream = streams; stream; stream = stream->next)
    if (stream->recording && which(stream)) found = stream->spoilt = 1;
  return found;
}

static int any(const Stream *stream) { (void)stream; return 1; }
static int mine(const Stream *stream) {
  return stream->mode == GLOBAL || (stream->mode == THREAD_LOCAL && stream->recorder == thread());
}
static int blocking(const Stream *stream) { return !(stream->flags & 1); }

/* A call that may wait for the card, by a thread that records. */
static Result unsafe(const char *call) { return spoil(mine) ? refused(call, CAPTURE_UNSUPPORTED) : SUCCESS; }

/* A wait for all streams, while any of them is recorded: whichever thread does that. */
static Result of_all(const char *call) { return spoil(any) ? refused(call, CAPTURE_UNSUPPORTED) : SUCCESS; }

/* Work on the default stream, which waits for others, while one of those is recorded. */
static Result implicit(const char *call, const Stream *stream) {
  return stream == &legacy && spoil(blocking) ? refused(call, CAPTURE_IMPLICIT) : SUCCESS;
}

#define TRY(answer) do { Result code_ = (answer); if (code_) return code_; } while (0)
#define NEEDS_CONTEXT(call) do { if (!contexts) return refused(call, INVALID_CONTEXT); } while (0)
#define FIND_STREAM(call, handle) stream_of(handle); if (!stream) return refused(call, INVALID_HANDLE)

static Result queue(const char *call, Stream *stream, Work work) {
  TRY(implicit(call, stream));
  if (stream == &legacy) perform_blocking();
  if (stream->recording && work.own) {
    stream->spoilt = 1;
    free(work.own);
    return refused(call, CAPTURE_UNSUPPORTED);
  }
  append(stream->recording ? &stream->recorded : &stream->queue, work);
  return SUCCESS;
}

/* The driver, the card, contexts ----------------------------------------------------------------------------------- */

static Result cuInit(unsigned flags) {
  (void)flags;
  ALONE;
  const char *path = getenv("REHEARSAL_LOG");
  if (path && !lines) lines = fopen(path, "a");
  return SUCCESS;
}
static Result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
static Result cuGetErrorName(Result code, const char **text) { return text_of(code, text); }
static Result cuGetErrorString(Result code, const char **text) { return text_of(code, text); }
static Result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
static Result cuDeviceGetName(char *name, int room, int device) {
  (void)device;
  snprintf(name, room, "NVIDIA H100 80GB HBM3");
  return SUCCESS;
}
static Result cuDeviceGetUuid(char *sixteen, int device) { (void)device; memset(sixteen, 7, 16); return SUCCESS; }
static Result cuDeviceGetAttribute(int *value, int attribute, int device) {
  static const int VALUES[][2] = {
    {1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, /* threads, block, grid */
    {8, 49152}, {10, 32}, {16, 132}, {41, 1}, {75, 9}, {76, 0}, /* shared memory, warp, SMs, one address space, 9.0 */
  };
  (void)device;
  *value = 0;
  for (size_t i = 0; i < sizeof VALUES / sizeof VALUES[0]; i++)
    if (VALUES[i][0] == attribute) *value = VALUES[i][1];
  return SUCCESS;
}
static Result cuDevicePrimaryCtxRetain(void **made, int device) { (void)device; *made = &context; return SUCCESS; }
static Result cuDevicePrimaryCtxRelease(int device) { (void)device; return SUCCESS; }
static Result cuCtxGetCurrent(void **current) { *current = contexts ? &context : NULL; return SUCCESS; }
static Result cuCtxSetCurrent(void *given) { contexts = given ? (contexts ? contexts : 1) : 0; return SUCCESS; }
static Result cuCtxPushCurrent(void *given) {
  ALONE;
  if (given != &context) return refused("cuCtxPushCurrent", INVALID_CONTEXT);
  contexts++;
  return SUCCESS;
}
static Result cuCtxPopCurrent(void **popped) {
  ALONE;
  NEEDS_CONTEXT("cuCtxPopCurrent");
  if (popped) *popped = &context;
  contexts--;
  return SUCCESS;
}
static Result cuCtxGetDevice(int *device) { *device = 0; return contexts ? SUCCESS : INVALID_CONTEXT; }
static Result cuCtxSynchronize(void) {
  ALONE;
  NEEDS_CONTEXT("cuCtxSynchronize");
  note("cuCtxSynchronize");
  TRY(of_all("cuCtxSynchronize"));
  perform_all();
  return SUCCESS;
}

/* Memory ----------------------------------------------------------------------------------------------------------- */

static Result make(const char *call, void **at, size_t bytes, int host) {
  ALONE;
  NEEDS_CONTEXT(call);
  TRY(unsafe(call));
  if (!bytes) return refused(call, INVALID_VALUE);
  if (!host && used + bytes > card_bytes) { /* no mistake of the caller's: it cannot know */
    note("%s bytes=%zu at=0", call, bytes);
    return OUT_OF_MEMORY;
  }
  void *made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (made == MAP_FAILED) return OUT_OF_MEMORY;
  Memory *memory = malloc(sizeof *memory);
  *memory = (Memory){memories, made, bytes, host};
  memories = memory;
  used += host ? 0 : bytes;
  *at = made;
  note("%s bytes=%zu at=%p", call, bytes, made);
  return SUCCESS;
}
static Result drop(const char *call, void *at, int host) {
  ALONE;
  TRY(unsafe(call));
  for (Memory **place = &memories; *place; place = &(*place)->next) {
    Memory *memory = *place;
    if (memory->at != at || memory->host != host) continue;
    perform_all(); /* freeing waits for what uses it */
    note("%s bytes=%zu at=%p", call, memory->bytes, at);
    used -= host ? 0 : memory->bytes;
    munmap(at, memory->bytes);
    *place = memory->next;
    free(memory);
    return SUCCESS;
  }
  return refused(call, INVALID_VALUE);
}
static Result cuMemAlloc(void **at, size_t bytes) { return make("cuMemAlloc", at, bytes, 0); }
static Result cuMemFree(void *at) { return at ? drop("cuMemFree", at, 0) : SUCCESS; }
static Result cuMemHostAlloc(void **at, size_t bytes, unsigned flags) {
  (void)flags;
  return make("cuMemHostAlloc", at, bytes, 1);
}
static Result cuMemFreeHost(void *at) { return drop("cuMemFreeHost", at, 1); }
static Result cuMemGetInfo(size_t *left, size_t *total) {
  ALONE;
  NEEDS_CONTEXT("cuMemGetInfo");
  *left = card_bytes - used;
  *total = card_bytes;
  return SUCCESS;
}
static Result cuPointerGetAttributes(unsigned count, const int *attributes, void **values, void *at) {
  ALONE;
  const Memory *memory = memory_of(at, 1);
  for (unsigned i = 0; i < count; i++)
    switch (attributes[i]) { /* nothing but zeros for memory that the driver does not know */
    case 2: *(unsigned *)values[i] = memory ? (memory->host ? 1 : 2) : 0; break; /* CU_MEMORYTYPE_HOST, _DEVICE */
    case 8: *(unsigned *)values[i] = 0; break; /* managed */
    case 9: *(int *)values[i] = 0; break; /* the card's number */
    default: return refused("cuPointerGetAttributes", NOT_SUPPORTED);
    }
  return SUCCESS;
}

/* Memory of the host that is not page-locked is read at once, and written before the call returns. */
static Result copy(const char *call, void *to, int to_host, const void *from, int from_host, size_t bytes, void *handle,
                   int wait) {
  ALONE;
  NEEDS_CONTEXT(call);
  Stream *stream = FIND_STREAM(call, handle);
  const Memory *target = memory_of(to, bytes), *source = memory_of(from, bytes);
  if ((!target && !to_host) || (!source && !from_host)) return refused(call, INVALID_VALUE);
  if (target && target->host != to_host) return refused(call, INVALID_VALUE);
  if (source && source->host != from_host) return refused(call, INVALID_VALUE);
  if (wait || !target) {
    TRY(unsafe(call));
    if (stream->recording) return stream->spoilt = 1, refused(call, CAPTURE_UNSUPPORTED);
  }
  Work work = {.kind = COPY, .to = to, .from = from, .bytes = bytes};
  if (!source) work.from = work.own = memcpy(malloc(bytes), from, bytes);
  TRY(queue(call, stream, work));
  note("%s bytes=%zu to=%p from=%p stream=%p", call, bytes, to, from, handle);
  if (!target || (wait && source)) perform(stream); /* unlocked memory that goes to the card may still be on its way */
  return SUCCESS;
}
static Result cuMemcpyHtoD(void *to, const void *from, size_t bytes) {
  return copy("cuMemcpyHtoD", to, 0, from, 1, bytes, NULL, 1);
}
static Result cuMemcpyDtoH(void *to, const void *from, size_t bytes) {
  return copy("cuMemcpyDtoH", to, 1, from, 0, bytes, NULL, 1);
}
static Result cuMemcpyHtoDAsync(void *to, const void *from, size_t bytes, void *stream) {
  return copy("cuMemcpyHtoDAsync", to, 0, from, 1, bytes, stream, 0);
}
static Result cuMemcpyDtoHAsync(void *to, const void *from, size_t bytes, void *stream) {
  return copy("cuMemcpyDtoHAsync", to, 1, from, 0, bytes, stream, 0);
}
static Result cuMemcpyDtoDAsync(void *to, const void *from, size_t bytes, void *stream) {
  return copy("cuMemcpyDtoDAsync", to, 0, from, 0, bytes, stream, 0);
}
static Result cuMemsetD32Async(void *to, unsigned value, size_t count, void *handle) {
  ALONE;
  Stream *stream = FIND_STREAM("cuMemsetD32Async", handle);
  const Memory *target = memory_of(to, 4 * count);
  if (!target || target->host) return refused("cuMemsetD32Async", INVALID_VALUE);
  return queue("cuMemsetD32Async", stream, (Work){.kind = FILL, .to = to, .bytes = 4 * count, .value = value});
}

/* Kernels ---------------------------------------------------------------------------------------------------------- */

static Result cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned c, void *d, void *e,
                                unsigned f) {
  (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
  ALONE;
  NEEDS_CONTEXT("cuLibraryLoadData");
  TRY(unsafe("cuLibraryLoadData"));
  if (memcmp(code, "\x7f" "ELF", 4)) return refused("cuLibraryLoadData", INVALID_VALUE); /* machine code, linked */
  note("cuLibraryLoadData");
  *library = malloc(1);
  return SUCCESS;
}
typedef struct { unsigned shared; char name[]; } Kernel; /* shared: bytes of shared memory that a block may ask for */

static Result cuLibraryGetKernel(void **made, void *library, const char *name) {
  (void)library;
  Kernel *kernel = malloc(sizeof *kernel + strlen(name) + 1); /* kept for ever, as kernels are */
  kernel->shared = 49152;
  strcpy(kernel->name, name);
  *made = kernel;
  return SUCCESS;
}
static Result cuKernelGetAttribute(int *value, int attribute, void *kernel, int device) {
  (void)kernel, (void)device;
  *value = attribute ? 0 : 1024; /* CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK */
  return SUCCESS;
}
static Result cuKernelSetAttribute(int attribute, int value, void *handle, int device) {
  (void)device;
  ALONE;
  Kernel *kernel = handle;
  if (attribute != 8 || value < 0 || value > 232448) return refused("cuKernelSetAttribute", INVALID_VALUE);
  kernel->shared = value; /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */
  note("cuKernelSetAttribute kernel=%s shared=%d", kernel->name, value);
  return SUCCESS;
}

static Result launch(const Kernel *kernel, const unsigned grid[3], const unsigned block[3], unsigned shared,
                     void *handle) {
  ALONE;
  NEEDS_CONTEXT("launch");
  Stream *stream = FIND_STREAM("launch", handle);
  unsigned long long threads = (unsigned long long)block[0] * block[1] * block[2];
  int fits = grid[0] && grid[1] && grid[2] && grid[0] <= 2147483647u && grid[1] <= 65535 && grid[2] <= 65535;
  unsigned most = kernel ? kernel->shared : 49152;
  if (!fits || !threads || threads > 1024 || block[2] > 64 || shared > most) return refused("launch", INVALID_VALUE);
  TRY(queue("launch", stream, (Work){.kind = LAUNCH}));
  note("launch kernel=%s grid=%u,%u,%u threads=%llu shared=%u stream=%p recorded=%d", kernel->name, grid[0], grid[1],
       grid[2], threads, shared, handle, stream->recording);
  return SUCCESS;
}
static Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                             unsigned bz, unsigned shared, void *stream, void **parameters, void **extra) {
  (void)parameters, (void)extra;
  return launch(function, (unsigned[]){gx, gy, gz}, (unsigned[]){bx, by, bz}, shared, stream);
}
typedef struct { unsigned grid[3], block[3], shared; void *stream, *attributes; unsigned count; } LaunchConfig;
static Result cuLaunchKernelEx(const LaunchConfig *config, void *function, void **parameters, void **extra) {
  (void)parameters, (void)extra;
  return launch(function, config->grid, config->block, config->shared, config->stream);
}

/* Streams and events ----------------------------------------------------------------------------------------------- */

static Result cuStreamCreateWithPriority(void **made, unsigned flags, int priority) {
  (void)priority;
  ALONE;
  NEEDS_CONTEXT("cuStreamCreate");
  Stream *stream = calloc(1, sizeof *stream);
  stream->flags = flags;
  stream->next = legacy.next;
  legacy.next = stream;
  *made = stream;
  note("cuStreamCreate flags=%u stream=%p", flags, (void *)stream);
  return SUCCESS;
}
static Result cuStreamCreate(void **made, unsigned flags) { return cuStreamCreateWithPriority(made, flags, 0); }
static Result cuStreamDestroy(void *handle) {
  ALONE;
  for (Stream **place = &legacy.next; *place; place = &(*place)->next) {
    Stream *stream = *place;
    if (stream != handle) continue;
    perform(stream); /* what is queued on it still happens */
    note("cuStreamDestroy stream=%p", handle);
    *place = stream->next;
    forget(&stream->recorded);
    free(stream);
    return SUCCESS;
  }
  return refused("cuStreamDestroy", INVALID_HANDLE);
}
static Result cuStreamSynchronize(void *handle) {
  ALONE;
  Stream *stream = FIND_STREAM("cuStreamSynchronize", handle);
  if (stream->recording) return stream->spoilt = 1, refused("cuStreamSynchronize", CAPTURE_UNSUPPORTED);
  TRY(implicit("cuStreamSynchronize", stream));
  note("cuStreamSynchronize stream=%p", handle);
  if (stream == &legacy) perform_blocking();
  perform(stream);
  return SUCCESS;
}
static Result cuStreamGetFlags(void *handle, unsigned *flags) {
  ALONE;
  const Stream *stream = FIND_STREAM("cuStreamGetFlags", handle);
  *flags = stream->flags;
  return SUCCESS;
}

static Result cuEventCreate(void **made, unsigned flags) {
  (void)flags;
  *made = calloc(1, sizeof(Event));
  return SUCCESS;
}
static Result cuEventDestroy(void *event) {
  ALONE;
  perform_all();
  free(event);
  return SUCCESS;
}
static Result cuEventRecordWithFlags(void *event, void *handle, unsigned flags) {
  (void)flags;
  ALONE;
  Stream *stream = FIND_STREAM("cuEventRecord", handle);
  return queue("cuEventRecord", stream, (Work){.kind = MARK, .event = event});
}
static Result cuEventElapsedTime(float *milliseconds, void *from, void *to) {
  *milliseconds = (float)(1e3 * (((Event *)to)->seconds - ((Event *)from)->seconds));
  return SUCCESS;
}

/* Graphs ----------------------------------------------------------------------------------------------------------- */

static Result cuStreamBeginCapture(void *handle, enum Mode mode) {
  ALONE;
  Stream *stream = FIND_STREAM("cuStreamBeginCapture", handle);
  if (stream == &legacy || stream->recording) return refused("cuStreamBeginCapture", CAPTURE_UNSUPPORTED);
  note("cuStreamBeginCapture stream=%p mode=%d", handle, mode);
  stream->recording = 1;
  stream->spoilt = 0;
  stream->mode = mode;
  stream->recorder = thread();
  return SUCCESS;
}
static void *graph_of(Queue work) {
  Queue *graph = calloc(1, sizeof *graph);
  for (const Work *each = work.first; each; each = each->next) append(graph, *each);
  return graph;
}
static Result cuStreamEndCapture(void *handle, void **graph) {
  ALONE;
  Stream *stream = FIND_STREAM("cuStreamEndCapture", handle);
  *graph = NULL;
  if (!stream->recording) return refused("cuStreamEndCapture", INVALID_VALUE);
  if (stream->mode != RELAXED && stream->recorder != thread()) {
    stream->spoilt = 1;
    return refused("cuStreamEndCapture", CAPTURE_WRONG_THREAD);
  }
  stream->recording = 0;
  note("cuStreamEndCapture stream=%p nodes=%d spoilt=%d", handle, stream->recorded.count, stream->spoilt);
  if (!stream->spoilt) *graph = graph_of(stream->recorded);
  forget(&stream->recorded);
  return stream->spoilt ? CAPTURE_INVALIDATED : SUCCESS;
}
static Result cuGraphInstantiateWithFlags(void **made, Queue *graph, unsigned long long flags) {
  (void)flags;
  ALONE;
  *made = graph_of(*graph);
  note("cuGraphInstantiate graph=%p nodes=%d", *made, graph->count);
  return SUCCESS;
}
static Result cuGraphLaunch(Queue *graph, void *handle) {
  ALONE;
  NEEDS_CONTEXT("cuGraphLaunch");
  Stream *stream = FIND_STREAM("cuGraphLaunch", handle);
  TRY(implicit("cuGraphLaunch", stream));
  if (stream->recording) return stream->spoilt = 1, refused("cuGraphLaunch", NOT_SUPPORTED); /* here, not by NVIDIA */
  note("cuGraphLaunch graph=%p nodes=%d stream=%p", (void *)graph, graph->count, handle);
  for (const Work *each = graph->first; each; each = each->next)
    if (each->kind != LAUNCH) append(&stream->queue, *each);
  return SUCCESS;
}
static Result cuGraphDestroy(Queue *graph) {
  forget(graph);
  free(graph);
  return SUCCESS;
}
static Result cuGraphExecDestroy(Queue *graph) {
  ALONE;
  note("cuGraphExecDestroy graph=%p", (void *)graph);
  return cuGraphDestroy(graph);
}

/* Where functions are found ---------------------------------------------------------------------------------------- */

#define OFFER(name) {#name, (void *)name}
static const struct { const char *name; void *function; } OFFERED[] = {
  OFFER(cuInit), OFFER(cuDriverGetVersion), OFFER(cuGetErrorName), OFFER(cuGetErrorString), OFFER(cuDeviceGetCount),
  OFFER(cuDeviceGetName), OFFER(cuDeviceGetUuid), OFFER(cuDeviceGetAttribute), OFFER(cuDevicePrimaryCtxRetain),
  OFFER(cuDevicePrimaryCtxRelease), OFFER(cuCtxGetCurrent), OFFER(cuCtxSetCurrent), OFFER(cuCtxPushCurrent),
  OFFER(cuCtxPopCurrent), OFFER(cuCtxGetDevice), OFFER(cuCtxSynchronize), OFFER(cuMemAlloc), OFFER(cuMemFree),
  OFFER(cuMemHostAlloc), OFFER(cuMemFreeHost), OFFER(cuMemGetInfo), OFFER(cuPointerGetAttributes),
  OFFER(cuMemcpyHtoD), OFFER(cuMemcpyDtoH), OFFER(cuMemcpyHtoDAsync), OFFER(cuMemcpyDtoHAsync),
  OFFER(cuMemcpyDtoDAsync), OFFER(cuMemsetD32Async), OFFER(cuLibraryLoadData), OFFER(cuLibraryGetKernel),
  OFFER(cuKernelGetAttribute), OFFER(cuKernelSetAttribute), OFFER(cuLaunchKernel), OFFER(cuLaunchKernelEx),
  OFFER(cuStreamCreateWithPriority), OFFER(cuStreamCreate), OFFER(cuStreamDestroy), OFFER(cuStreamSynchronize), OFFER(cuStreamGetFlags),
  OFFER(cuEventCreate), OFFER(cuEventDestroy), OFFER(cuEventRecordWithFlags), OFFER(cuEventElapsedTime),
  OFFER(cuStreamBeginCapture), OFFER(cuStreamEndCapture), OFFER(cuGraphInstantiateWithFlags), OFFER(cuGraphLaunch),
  OFFER(cuGraphDestroy), OFFER(cuGraphExecDestroy),
};

/* All others: 1024 functions that are alike, but that each knows the number of the name in whose place it was given. */
static const char *missing[1024];
static Result absent(int number) {
  ALONE;
  note("missing call=%s", missing[number]);
  return NOT_SUPPORTED;
}
#define DIGITS(each, at) \
  each(at##0) each(at##1) each(at##2) each(at##3) each(at##4) each(at##5) each(at##6) each(at##7) \
  each(at##8) each(at##9) each(at##a) each(at##b) each(at##c) each(at##d) each(at##e) each(at##f)
#define SIXTEENS(each, at) /* the same, for a macro does not expand itself */ \
  each(at##0) each(at##1) each(at##2) each(at##3) each(at##4) each(at##5) each(at##6) each(at##7) \
  each(at##8) each(at##9) each(at##a) each(at##b) each(at##c) each(at##d) each(at##e) each(at##f)
#define DEFINE(number) static Result absent_##number(void) { return absent(number); }
#define DEFINE_16(at) DIGITS(DEFINE, at)
SIXTEENS(DEFINE_16, 0x0) SIXTEENS(DEFINE_16, 0x1) SIXTEENS(DEFINE_16, 0x2) SIXTEENS(DEFINE_16, 0x3)
#define NAME(number) (void *)absent_##number,
#define NAME_16(at) DIGITS(NAME, at)
static void *const ABSENT[1024] = {
  SIXTEENS(NAME_16, 0x0) SIXTEENS(NAME_16, 0x1) SIXTEENS(NAME_16, 0x2) SIXTEENS(NAME_16, 0x3)
};

static int offered(const char *name, int version) { /* its place; -1 where there is none */
  static const char *const NEWER[] = {"cuCtxGetDevice", "cuCtxSynchronize"}; /* since 13.0 with another argument, too */
  for (int i = 0; version >= 13000 && i < 2; i++)
    if (!strcmp(name, NEWER[i])) return -1;
  for (size_t i = 0; i < sizeof OFFERED / sizeof OFFERED[0]; i++)
    if (!strcmp(name, OFFERED[i].name)) return (int)i;
  return -1;
}

#define PUBLIC __attribute__((visibility("default")))

PUBLIC Result cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *found) {
  (void)flags;
  ALONE;
  int place = offered(name, version);
  *function = place < 0 ? NULL : OFFERED[place].function;
  for (int i = 0; !*function && i < 1024; i++) {
    if (missing[i] && strcmp(missing[i], name)) continue;
    if (!missing[i]) missing[i] = strdup(name);
    *function = ABSENT[i];
  }
  if (found) *found = *function ? 0 : 1;
  return *function ? SUCCESS : NOT_FOUND;
}
