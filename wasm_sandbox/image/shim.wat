;; The shim: a small module that is merged into Pyodide's. It holds what has to be inside wasm: imports that are called too
;; often or are too trivial to leave it, CPython's call trampoline, both ends of the bridge, and the small-object allocator.
;;
;; It owns RESERVED bytes from __heap_base on (boot.py moves the start of the heap behind them):
;;      +0  a pointer and a length, results of PyBytes_AsStringAndSize
;;      +8  the interrupt flag: the host writes a signal number, CPython's signal check takes it
;;     +12  the state of output: whether the runner has something unsent (streams.py, raw_output.py)
;;     +16  the buffer: 64 KiB for messages of the host and its replies, each copied out of it at once; scratch of $save
;;  +65552  text of the OSError for a refused call, written by boot.py
;;  +65600  the allocator's state:  +0 heads of the free lists  +260 next fresh block  +520 last fresh block (65 words each)
;;          +1024 one byte per 16 KiB of address space: the size class of the pool there, 0 for memory of dlmalloc
;; +328768  two bytes per 16 KiB of address space: scratch of $reclaim, zero between its calls
(module
 (type $t3 (func (param i32 i32 i32) (result i32)))
 (type $t2 (func (param i32 i32) (result i32)))
 (type $t1 (func (param i32) (result i32)))
 (type $t0 (func (result i32)))
 (type $signal_handler (func (param i32)))
 (type $at_offset (func (param i32 i32 i32 i64) (result i32)))
 (import "main" "memory" (memory 0))
 (import "main" "__indirect_function_table" (table $table 0 funcref))
 (import "main" "__heap_base" (global $base i32))
 (import "main" "PyExc_OSError" (global $os_error i32))
 (import "main" "PyBytes_AsStringAndSize" (func $as_bytes (type $t3)))
 (import "main" "PyBytes_AsString" (func $bytes_data (type $t1)))
 (import "main" "PyBytes_FromStringAndSize" (func $new_bytes (type $t2)))
 (import "main" "PyObject_CallOneArg" (func $call_one (type $t2)))
 (import "main" "PyErr_SetString" (func $raise (param i32 i32)))
 (import "main" "PyErr_Clear" (func $clear_error))
 (import "main" "Py_GetConstant" (func $constant (type $t1)))
 (import "main" "Py_IncRef" (func $incref (param i32)))
 (import "main" "Py_DecRef" (func $decref (param i32)))
 (import "main" "malloc" (func $malloc (type $t1)))
 (import "main" "free" (func $free (param i32)))
 (import "main" "realloc" (func $realloc (type $t2)))
 (import "main" "calloc" (func $calloc (type $t2)))
 (import "main" "memalign" (func $memalign (type $t2)))
 (import "main" "memcmp" (func $memcmp (type $t3)))
 (import "main" "fcntl" (func $fcntl (type $t3)))
 (import "main" "dup" (func $dup (type $t1)))
 (import "main" "close" (func $close (type $t1)))
 (import "main" "pread" (func $pread (type $at_offset)))
 (import "main" "pwrite" (func $pwrite (type $at_offset)))
 (import "main" "__errno_location" (func $errno (type $t0)))
 (import "host" "call" (func $host_call (type $t2)))
 (import "host" "fetch" (func $host_fetch (param i32)))

 (global (export "__mut_scratch") i32 (global.get $base))
 (global $entry (mut i32) (i32.const 0))
 (global $reply (mut i32) (i32.const 0))
 (global $mapped (mut i32) (i32.const 0))

 ;; ---- imports of the main module that never leave wasm
 (func (export "_Py_CheckEmscriptenSignals_Helper") (result i32) (local $signal i32)
  (local.set $signal (i32.load offset=8 (global.get $base)))
  ;; Stored only when it was set: a store of 0 over a flag that the host sets just now would lose the interrupt.
  (if (local.get $signal) (then (i32.store offset=8 (global.get $base) (i32.const 0))))
  (local.get $signal))
 (func (export "emscripten_runtime_keepalive_push"))
 (func (export "emscripten_runtime_keepalive_pop"))
 (func (export "_emscripten_runtime_keepalive_clear"))
 (func (export "_try_fcntl64") (param i32 i32 i32 i32) (result i32) (i32.const 0))
 (func (export "_try_shutdown") (param i32 i32 i32) (result i32) (i32.const 0))
 (func (export "_maybe_poll_async") (param i32 i32 i32) (result externref) (ref.null extern))
 (func (export "_maybe_connect_async") (param i32 i32 i32) (result externref) (ref.null extern))
 (func (export "_maybe_recvfrom_async") (param i32 i32 i32) (result externref) (ref.null extern))
 (func (export "_maybe_sendto_async") (param i32 i32 i32) (result externref) (ref.null extern))
 ;; the one import of the JavaScript FFI that a constructor calls; its result is kept and never used
 (func (export "__hiwire_deduplicate_new") (result externref) (ref.null extern))
 (func (export "_Py_emscripten_runtime") (result i32) (i32.const 0))
 (func (export "__syscall_getuid32_js") (result i32) (i32.const 0))
 ;; raise(3) calls the C handler of a signal, which for CPython only notes it
 (func (export "__call_sighandler") (param $handler i32) (param $signal i32)
  (call_indirect $table (type $signal_handler) (local.get $signal) (local.get $handler)))

 ;; ---- CPython's call trampoline: calls a C function with as many of the three arguments as its type takes
 (func (export "shim_trampoline") (param $ok i32) (param $f i32) (param $a i32) (param $b i32) (param $c i32) (result i32)
  (local $r funcref)
  (i32.store (local.get $ok) (i32.const 1))
  (local.set $r (table.get $table (local.get $f)))
  (if (ref.test (ref $t3) (local.get $r)) (then (return
   (call_indirect $table (type $t3) (local.get $a) (local.get $b) (local.get $c) (local.get $f)))))
  (if (ref.test (ref $t2) (local.get $r)) (then (return
   (call_indirect $table (type $t2) (local.get $a) (local.get $b) (local.get $f)))))
  (if (ref.test (ref $t1) (local.get $r)) (then (return
   (call_indirect $table (type $t1) (local.get $a) (local.get $f)))))
  (if (ref.test (ref $t0) (local.get $r)) (then (return (call_indirect $table (type $t0) (local.get $f)))))
  (i32.store (local.get $ok) (i32.const 0))
  (i32.const 0))

 ;; ---- the bridge, guest to host: `_host.call(bytes) -> bytes`, a METH_O function
 (func (export "shim_call") (param $self i32) (param $message i32) (result i32) (local $n i32) (local $result i32)
  (if (call $as_bytes (local.get $message) (global.get $base) (i32.add (global.get $base) (i32.const 4)))
   (then (return (i32.const 0))))
  (local.set $n (call $host_call (i32.load (global.get $base)) (i32.load offset=4 (global.get $base))))
  (if (i32.lt_s (local.get $n) (i32.const 0)) (then
   (call $raise (i32.load (global.get $os_error)) (i32.add (global.get $base) (i32.const 65552)))
   (return (i32.const 0))))
  (if (i32.le_s (local.get $n) (i32.const 65536)) (then
   (return (call $new_bytes (i32.add (global.get $base) (i32.const 16)) (local.get $n)))))
  (local.set $result (call $new_bytes (i32.const 0) (local.get $n)))
  (if (i32.eqz (local.get $result)) (then (return (i32.const 0))))
  (call $host_fetch (call $bytes_data (local.get $result)))
  (local.get $result))

 ;; `_host.set_entry(callable)`, a METH_O function
 (func (export "shim_set_entry") (param $self i32) (param $callable i32) (result i32) (local $old i32)
  (call $incref (local.get $callable))
  (local.set $old (global.get $entry))
  (global.set $entry (local.get $callable))
  (if (local.get $old) (then (call $decref (local.get $old))))
  (call $constant (i32.const 0)))

 ;; ---- the bridge, host to guest
 ;; A place for a message of n bytes. Longer ones than the buffer are freed by shim_enter. 0: no memory.
 (func (export "shim_buffer") (param $n i32) (result i32)
  (if (i32.le_u (local.get $n) (i32.const 65536)) (then (return (i32.add (global.get $base) (i32.const 16)))))
  (call $malloc (local.get $n)))

 ;; Give the message to the entry function. The length of its answer, -1 if it raised or did not return bytes.
 (func (export "shim_enter") (param $p i32) (param $n i32) (result i32) (local $message i32) (local $old i32)
  (local.set $old (global.get $reply))
  (global.set $reply (i32.const 0))
  (if (local.get $old) (then (call $decref (local.get $old))))
  (local.set $message (call $new_bytes (local.get $p) (local.get $n)))
  (if (i32.ne (local.get $p) (i32.add (global.get $base) (i32.const 16))) (then (call $free (local.get $p))))
  (if (i32.and (i32.ne (local.get $message) (i32.const 0)) (i32.ne (global.get $entry) (i32.const 0))) (then
   (global.set $reply (call $call_one (global.get $entry) (local.get $message)))))
  (if (local.get $message) (then (call $decref (local.get $message))))
  (if (global.get $reply) (then
   (if (i32.eqz (call $as_bytes (global.get $reply) (global.get $base) (i32.add (global.get $base) (i32.const 4))))
    (then (return (i32.load offset=4 (global.get $base)))))))
  (call $clear_error)
  (i32.const -1))

 ;; Where the answer's bytes are, until the next shim_enter.
 (func (export "shim_reply") (result i32)
  (if (i32.eqz (global.get $reply)) (then (return (i32.const 0))))
  (call $bytes_data (global.get $reply)))

 ;; ---- mapped files: a mapping is a copy. One that is shared and writable is written back by msync and munmap
 ;; Only bytes that were changed in it are, so a second mapping of the same bytes and writes to the file keep theirs, and
 ;; one that was only read changes nothing. Behind such a copy, in the same block, which the C library frees:
 ;;   +0 the next one  +4 the copy  +8 its length  +12 a descriptor of its own  +16 bytes that the file had
 ;;   +24 offset in the file  +32 the bytes as they were
 (func $failed (result i32) (i32.sub (i32.const 0) (i32.load (call $errno))))

 (func (export "_mmap_js") (param $n i32) (param $prot i32) (param $flags i32) (param $fd i32) (param $at i64)
  (param $owned i32) (param $result i32) (result i32)
  (local $mode i32) (local $keeps i32) (local $room i32) (local $p i32) (local $got i32) (local $count i32) (local $map i32)
  (local.set $mode (call $fcntl (local.get $fd) (i32.const 3) (i32.const 0)))
  (if (i32.lt_s (local.get $mode) (i32.const 0)) (then (return (call $failed))))
  (local.set $mode (i32.and (local.get $mode) (i32.const 3)))
  ;; PROT_WRITE and MAP_SHARED. EACCES unless the file was opened for that
  (local.set $keeps (i32.and (i32.and (i32.shr_u (local.get $prot) (i32.const 1)) (local.get $flags)) (i32.const 1)))
  (if (select (i32.ne (local.get $mode) (i32.const 2)) (i32.eq (local.get $mode) (i32.const 1)) (local.get $keeps))
   (then (return (i32.const -2))))
  (if (i32.gt_u (local.get $n) (i32.const 0x3fff0000)) (then (return (i32.const -48))))  ;; ENOMEM, as below
  (local.set $room (i32.and (i32.add (local.get $n) (i32.const 15)) (i32.const -16)))
  (local.set $count (select (i32.add (i32.shl (local.get $room) (i32.const 1)) (i32.const 32)) (local.get $room)
   (local.get $keeps)))
  (local.set $p (call $memalign (i32.const 65536) (local.get $count)))
  (if (i32.eqz (local.get $p)) (then
   (if (i32.eqz (call $reclaim)) (then (return (i32.const -48))))
   (local.set $p (call $memalign (i32.const 65536) (local.get $count)))
   (if (i32.eqz (local.get $p)) (then (return (i32.const -48))))))
  (memory.fill (local.get $p) (i32.const 0) (local.get $room))
  (block $read (loop $more
   (br_if $read (i32.eq (local.get $got) (local.get $n)))
   (local.set $count (call $pread (local.get $fd) (i32.add (local.get $p) (local.get $got))
    (i32.sub (local.get $n) (local.get $got)) (i64.add (local.get $at) (i64.extend_i32_u (local.get $got)))))
   (if (i32.lt_s (local.get $count) (i32.const 0)) (then (call $free (local.get $p)) (return (call $failed))))
   (br_if $read (i32.eqz (local.get $count)))
   (local.set $got (i32.add (local.get $got) (local.get $count)))
   (br $more)))
  (if (local.get $keeps) (then
   (local.set $fd (call $dup (local.get $fd)))
   (if (i32.lt_s (local.get $fd) (i32.const 0)) (then (call $free (local.get $p)) (return (call $failed))))
   (local.set $map (i32.add (local.get $p) (local.get $room)))
   (i32.store (local.get $map) (global.get $mapped))
   (i32.store offset=4 (local.get $map) (local.get $p))
   (i32.store offset=8 (local.get $map) (local.get $n))
   (i32.store offset=12 (local.get $map) (local.get $fd))
   (i32.store offset=16 (local.get $map) (local.get $got))
   (i64.store offset=24 (local.get $map) (local.get $at))
   (memory.copy (i32.add (local.get $map) (i32.const 32)) (local.get $p) (local.get $got))
   (global.set $mapped (local.get $map))))
  (i32.store (local.get $owned) (i32.const 1))
  (i32.store (local.get $result) (local.get $p))
  (i32.const 0))

 ;; Write back what was changed, and see what others wrote there. A piece at a time, through the buffer.
 (func $save (param $map i32) (result i32) (local $p i32) (local $was i32) (local $at i64) (local $left i32)
  (local $n i32) (local $got i32) (local $i i32)
  (local.set $p (i32.load offset=4 (local.get $map)))
  (local.set $was (i32.add (local.get $map) (i32.const 32)))
  (local.set $at (i64.load offset=24 (local.get $map)))
  (local.set $left (i32.load offset=16 (local.get $map)))
  (block $done (loop $pieces
   (br_if $done (i32.eqz (local.get $left)))
   (local.set $n (select (i32.const 65536) (local.get $left) (i32.gt_u (local.get $left) (i32.const 65536))))
   (if (call $memcmp (local.get $p) (local.get $was) (local.get $n)) (then
    (local.set $got (call $pread (i32.load offset=12 (local.get $map)) (i32.add (global.get $base) (i32.const 16))
     (local.get $n) (local.get $at)))
    (if (i32.lt_s (local.get $got) (i32.const 0)) (then (return (call $failed))))
    (local.set $i (i32.const 0))
    (block $merged (loop $bytes
     (br_if $merged (i32.eq (local.get $i) (local.get $got)))
     (if (i32.ne (i32.load8_u (i32.add (local.get $p) (local.get $i)))
       (i32.load8_u (i32.add (local.get $was) (local.get $i))))
      (then (i32.store8 offset=16 (i32.add (global.get $base) (local.get $i))
       (i32.load8_u (i32.add (local.get $p) (local.get $i))))))
     (local.set $i (i32.add (local.get $i) (i32.const 1)))
     (br $bytes)))
    (if (i32.lt_s (call $pwrite (i32.load offset=12 (local.get $map)) (i32.add (global.get $base) (i32.const 16))
      (local.get $got) (local.get $at)) (i32.const 0)) (then (return (call $failed))))
    (memory.copy (local.get $p) (i32.add (global.get $base) (i32.const 16)) (local.get $got))
    (memory.copy (local.get $was) (i32.add (global.get $base) (i32.const 16)) (local.get $got))))
   (local.set $p (i32.add (local.get $p) (local.get $n)))
   (local.set $was (i32.add (local.get $was) (local.get $n)))
   (local.set $at (i64.add (local.get $at) (i64.extend_i32_u (local.get $n))))
   (local.set $left (i32.sub (local.get $left) (local.get $n)))
   (br $pieces)))
  (i32.const 0))

 ;; The whole mapping that the address lies in, whatever part of it was asked for.
 (func (export "_msync_js") (param $at i32) (param i32 i32 i32 i32 i64) (result i32) (local $map i32)
  (local.set $map (global.get $mapped))
  (block $none (loop $maps
   (br_if $none (i32.eqz (local.get $map)))
   (if (i32.lt_u (i32.sub (local.get $at) (i32.load offset=4 (local.get $map))) (i32.load offset=8 (local.get $map)))
    (then (return (call $save (local.get $map)))))
   (local.set $map (i32.load (local.get $map)))
   (br $maps)))
  (i32.const 0))

 (func (export "_munmap_js") (param $at i32) (param i32 i32 i32 i32 i64) (result i32) (local $map i32) (local $link i32)
  (local $error i32)
  (local.set $map (global.get $mapped))
  (block $none (loop $maps
   (br_if $none (i32.eqz (local.get $map)))
   (if (i32.eq (local.get $at) (i32.load offset=4 (local.get $map))) (then
    (if (local.get $link)
     (then (i32.store (local.get $link) (i32.load (local.get $map))))
     (else (global.set $mapped (i32.load (local.get $map)))))
    (local.set $error (call $save (local.get $map)))
    (drop (call $close (i32.load offset=12 (local.get $map))))
    (return (local.get $error))))
   (local.set $link (local.get $map))
   (local.set $map (i32.load (local.get $map)))
   (br $maps)))
  (i32.const 0))

 ;; ---- the small-object allocator: 64 size classes of 8 bytes, pools of 16 KiB, LIFO free lists; larger ones are dlmalloc's
 ;; A pool leaves dlmalloc its 8 bytes of bookkeeping: so the next one can follow at once, and no gap of a pool's size.
 ;; Where the free blocks of p's pool are counted, less 328768.
 (func $pool_count (param $p i32) (result i32)
  (i32.add (global.get $base) (i32.shl (i32.shr_u (local.get $p) (i32.const 14)) (i32.const 1))))

 ;; Memory is short: pools with no block in use go back to dlmalloc. 1 if there was one.
 ;; For each class, its free list is walked three times: count the blocks per pool; unlink those of full pools, whose
 ;; count goes on from the top bit downwards; zero the counts.
 (func $reclaim (result i32) (local $class i32) (local $full i32) (local $lists i32) (local $p i32) (local $next i32)
  (local $link i32) (local $count i32) (local $n i32) (local $freed i32)
  (local.set $class (i32.const 1))
  (loop $classes
   (local.set $full (i32.div_u (i32.const 2047) (local.get $class)))
   (local.set $lists (i32.add (global.get $base) (i32.shl (local.get $class) (i32.const 2))))
   (local.set $p (i32.load offset=65600 (local.get $lists)))
   (block $counted (loop $blocks
    (br_if $counted (i32.eqz (local.get $p)))
    (local.set $count (call $pool_count (local.get $p)))
    (i32.store16 offset=328768 (local.get $count)
     (i32.add (i32.load16_u offset=328768 (local.get $count)) (i32.const 1)))
    (local.set $p (i32.load (local.get $p)))
    (br $blocks)))
   (local.set $p (i32.load offset=65600 (local.get $lists)))
   (local.set $link (i32.add (local.get $lists) (i32.const 65600)))
   (block $unlinked (loop $blocks
    (br_if $unlinked (i32.eqz (local.get $p)))
    (local.set $next (i32.load (local.get $p)))
    (local.set $count (call $pool_count (local.get $p)))
    (local.set $n (i32.load16_u offset=328768 (local.get $count)))
    (if (i32.eq (local.get $n) (local.get $full)) (then
     (local.set $n (i32.or (local.get $n) (i32.const 0x8000)))))
    (if (i32.and (local.get $n) (i32.const 0x8000))
     (then
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (i32.store16 offset=328768 (local.get $count) (local.get $n))
      (if (i32.eq (local.get $n) (i32.const 0x8000)) (then
       (i32.store16 offset=328768 (local.get $count) (i32.const 0))
       (i32.store8 offset=66624 (i32.add (global.get $base) (i32.shr_u (local.get $p) (i32.const 14))) (i32.const 0))
       (call $free (i32.and (local.get $p) (i32.const -16384)))
       (local.set $freed (i32.const 1)))))
     (else
      (i32.store (local.get $link) (local.get $p))
      (local.set $link (local.get $p))))
    (local.set $p (local.get $next))
    (br $blocks)))
   (i32.store (local.get $link) (i32.const 0))
   (local.set $p (i32.load offset=65600 (local.get $lists)))
   (block $zeroed (loop $blocks
    (br_if $zeroed (i32.eqz (local.get $p)))
    (i32.store16 offset=328768 (call $pool_count (local.get $p)) (i32.const 0))
    (local.set $p (i32.load (local.get $p)))
    (br $blocks)))
   (local.set $class (i32.add (local.get $class) (i32.const 1)))
   (br_if $classes (i32.le_u (local.get $class) (i32.const 64))))
  (local.get $freed))

 (func $refill (param $class i32) (result i32) (local $p i32) (local $lists i32)
  (local.set $p (call $memalign (i32.const 16384) (i32.const 16376)))
  (if (i32.eqz (local.get $p)) (then
   (if (i32.eqz (call $reclaim)) (then (return (i32.const 0))))
   (local.set $p (call $memalign (i32.const 16384) (i32.const 16376)))
   (if (i32.eqz (local.get $p)) (then (return (i32.const 0))))))
  (i32.store8 offset=66624 (i32.add (global.get $base) (i32.shr_u (local.get $p) (i32.const 14))) (local.get $class))
  (local.set $lists (i32.add (global.get $base) (i32.shl (local.get $class) (i32.const 2))))
  (i32.store offset=65860 (local.get $lists) (i32.add (local.get $p) (i32.shl (local.get $class) (i32.const 3))))
  (i32.store offset=66120 (local.get $lists)
   (i32.add (local.get $p) (i32.sub (i32.const 16376) (i32.shl (local.get $class) (i32.const 3)))))
  (local.get $p))

 (func $small_malloc (param $n i32) (result i32) (local $class i32) (local $lists i32) (local $p i32)
  (if (i32.gt_u (local.get $n) (i32.const 512)) (then
   (local.set $p (call $malloc (local.get $n)))
   (if (local.get $p) (then (return (local.get $p))))
   (return (if (result i32) (call $reclaim) (then (call $malloc (local.get $n))) (else (i32.const 0))))))
  (local.set $class (i32.shr_u (i32.add (local.get $n) (i32.const 7)) (i32.const 3)))
  (local.set $class (i32.add (local.get $class) (i32.eqz (local.get $class))))
  (local.set $lists (i32.add (global.get $base) (i32.shl (local.get $class) (i32.const 2))))
  (local.set $p (i32.load offset=65600 (local.get $lists)))
  (if (local.get $p) (then
   (i32.store offset=65600 (local.get $lists) (i32.load (local.get $p)))
   (return (local.get $p))))
  (local.set $p (i32.load offset=65860 (local.get $lists)))
  (if (i32.and (i32.ne (local.get $p) (i32.const 0)) (i32.le_u (local.get $p) (i32.load offset=66120 (local.get $lists))))
   (then
    (i32.store offset=65860 (local.get $lists) (i32.add (local.get $p) (i32.shl (local.get $class) (i32.const 3))))
    (return (local.get $p))))
  (call $refill (local.get $class)))

 (func $small_free (param $p i32) (local $class i32) (local $lists i32)
  (local.set $class (i32.load8_u offset=66624 (i32.add (global.get $base) (i32.shr_u (local.get $p) (i32.const 14)))))
  (if (i32.eqz (local.get $class)) (then (return (call $free (local.get $p)))))
  (local.set $lists (i32.add (global.get $base) (i32.shl (local.get $class) (i32.const 2))))
  (i32.store (local.get $p) (i32.load offset=65600 (local.get $lists)))
  (i32.store offset=65600 (local.get $lists) (local.get $p)))

 (func $small_realloc (param $p i32) (param $n i32) (result i32) (local $class i32) (local $old i32) (local $new i32)
  (if (i32.eqz (local.get $p)) (then (return (call $small_malloc (local.get $n)))))
  (local.set $class (i32.load8_u offset=66624 (i32.add (global.get $base) (i32.shr_u (local.get $p) (i32.const 14)))))
  (if (i32.eqz (local.get $class)) (then
   (local.set $n (select (local.get $n) (i32.const 1) (local.get $n)))
   (local.set $new (call $realloc (local.get $p) (local.get $n)))
   (if (local.get $new) (then (return (local.get $new))))
   (return (if (result i32) (call $reclaim)
    (then (call $realloc (local.get $p) (local.get $n))) (else (i32.const 0))))))
  (local.set $old (i32.shl (local.get $class) (i32.const 3)))
  (if (i32.le_u (local.get $n) (local.get $old)) (then
   ;; shrinking to less than half is worth a move
   (if (i32.gt_u (i32.shl (local.get $n) (i32.const 1)) (local.get $old)) (then (return (local.get $p))))
   (local.set $old (local.get $n))))
  (local.set $new (call $small_malloc (local.get $n)))
  (if (i32.eqz (local.get $new)) (then (return (i32.const 0))))
  (memory.copy (local.get $new) (local.get $p) (local.get $old))
  (call $small_free (local.get $p))
  (local.get $new))

 (func $small_calloc (param $count i32) (param $size i32) (result i32) (local $n i64) (local $p i32)
  (local.set $n (i64.mul (i64.extend_i32_u (local.get $count)) (i64.extend_i32_u (local.get $size))))
  (if (i64.gt_u (local.get $n) (i64.const 512)) (then
   (local.set $p (call $calloc (local.get $count) (local.get $size)))
   (if (local.get $p) (then (return (local.get $p))))
   (return (if (result i32) (call $reclaim)
    (then (call $calloc (local.get $count) (local.get $size))) (else (i32.const 0))))))
  (local.set $p (call $small_malloc (i32.wrap_i64 (local.get $n))))
  (if (local.get $p) (then (memory.fill (local.get $p) (i32.const 0) (i32.wrap_i64 (local.get $n)))))
  (local.get $p))

 ;; entry points of PyMemAllocatorEx; the first argument is its context
 (func (export "shim_ctx_malloc") (param i32 i32) (result i32) (call $small_malloc (local.get 1)))
 (func (export "shim_ctx_calloc") (param i32 i32 i32) (result i32) (call $small_calloc (local.get 1) (local.get 2)))
 (func (export "shim_ctx_realloc") (param i32 i32 i32) (result i32) (call $small_realloc (local.get 1) (local.get 2)))
 (func (export "shim_ctx_free") (param i32 i32) (if (local.get 1) (then (call $small_free (local.get 1)))))
 ;; bodies of PyObject_Malloc, PyMem_Malloc, PyObject_Free and PyMem_Free; these refuse what is over PY_SSIZE_T_MAX
 (func (export "shim_malloc") (param i32) (result i32)
  (if (result i32) (i32.lt_s (local.get 0) (i32.const 0)) (then (i32.const 0)) (else (call $small_malloc (local.get 0)))))
 (func (export "shim_free") (param i32) (if (local.get 0) (then (call $small_free (local.get 0)))))
)
