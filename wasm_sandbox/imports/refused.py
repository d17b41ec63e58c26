"""The imports that end the instance when they are called, and the few that the merged shim answers without the host.

Nearly all belong to Pyodide's JavaScript bridge. There is no JavaScript here, and the code that would call them never
starts (`import js` finds no module); a call means that the guest's memory is corrupt or hostile. No handler exists for
them: the engine links every import that the tables do not name as a trap.
"""

from __future__ import annotations

IN_SHIM: dict[str, str] = {
    "_maybe_connect_async": "null: no socket to wait for",
    "_maybe_poll_async": "null: no socket to wait for",
    "_maybe_recvfrom_async": "null: no socket to wait for",
    "_maybe_sendto_async": "null: no socket to wait for",
    "__hiwire_deduplicate_new": "null: a constructor of the JavaScript bridge stores it and nothing reads it",
}
"""Imports with a benign answer that only wasm can give, since it is an external reference."""

_JS_BRIDGE = "no JavaScript: the bridge is never started"
_TRAPS: tuple[tuple[str, str], ...] = (
    (
        _JS_BRIDGE,
        """
        JsArray_count_js JsArray_index_js JsArray_inplace_repeat_js JsArray_repeat_js JsArray_reverse_js
        JsArray_reversed_iterator JsBuffer_DecodeString_js JsBuffer_get_info JsDoubleProxy_unwrap_js
        JsException_new_helper JsMap_GetIter_js JsMap_clear_js JsModule_GetAll_js JsObjMap_GetIter_js
        JsObjMap_ass_subscript_js JsObjMap_contains_js JsObjMap_length_js JsObjMap_subscript_js JsProxy_Bool_js
        JsProxy_DelAttr_js JsProxy_Dir_js JsProxy_GetAsyncIter_js JsProxy_GetAttr_js JsProxy_GetIter_js
        JsProxy_SetAttr_js JsProxy_aexit_js JsProxy_compute_typeflags JsProxy_exit_js JsProxy_subscript_js
        JsProxy_to_weakref_js JsvArray_Check JsvArray_Delete JsvArray_Extend JsvArray_Get JsvArray_Insert JsvArray_New
        JsvArray_Push JsvArray_Set JsvArray_ShallowCopy JsvArray_slice JsvArray_slice_assign JsvAsyncGenerator_Check
        JsvBigInt_fromDigits JsvBigInt_fromInt JsvBuffer_assignFromPtr JsvBuffer_assignToPtr JsvBuffer_intoFile
        JsvBuffer_readFromFile JsvBuffer_writeToFile JsvError_Check JsvError_Throw JsvFunction_CallBound
        JsvFunction_Call_OneArg JsvFunction_Check JsvFunction_Construct JsvGenerator_Check JsvLiteralMap_New JsvMap_New
        JsvMap_Set JsvNoValue_Check JsvNum_fromDouble JsvNum_fromInt JsvNum_toInt JsvObject_CallMethod
        JsvObject_CallMethod_NoArgs JsvObject_CallMethod_OneArg JsvObject_CallMethod_TwoArgs JsvObject_Entries
        JsvObject_Keys JsvObject_New JsvObject_SetAttr JsvObject_Values JsvObject_toString JsvPromise_Check
        JsvPromise_Resolve JsvPromise_Syncify_handleError JsvSet_Add JsvSet_New JsvUTF8ToString Jsv_BigIntToNum
        Jsv_GetError_import Jsv_constructorName Jsv_equal Jsv_greater_than Jsv_greater_than_equal Jsv_less_than
        Jsv_less_than_equal Jsv_not_equal Jsv_to_bool Jsv_typeof _JsArray_PostProcess_helper _JsArray_PushEntry_helper
        _JsObject_Set_js __hiwire_deduplicate_delete __hiwire_deduplicate_get __hiwire_deduplicate_set
        _agen_handle_result_js _pyproxyGen_make_result _pyproxy_get_buffer_result _python2js_add_to_cache
        _python2js_addto_postprocess_list _python2js_ascii _python2js_buffer_inner _python2js_cache_lookup
        _python2js_handle_postprocess_list _python2js_ucs1 _python2js_ucs2 _python2js_ucs4 array_to_js can_run_sync_js
        capture_stderr create_once_callable create_promise_handles destroy_jsarray_entries destroy_proxies
        destroy_proxies_js destroy_proxy emscripten_asm_const_int fail_test gc_register_proxies
        get_async_js_call_done_callback get_length_helper get_length_string get_suspender handle_next_result_js
        hiwire_invalid_ref_js is_comlink_proxy js2python_convert js2python_immutable_js js2python_js
        jslib_init_buffers_js jslib_init_js my_dict_converter new_error proxy_cache_get proxy_cache_set pyodide_js_init
        pyproxy_AsPyObject pyproxy_Check pyproxy_new pyproxy_new_ex python2js__default_converter_js
        python2js__eager_converter_js python2js_custom__create_jscontext raw_call_js restoreState restore_stderr
        saveState set_pyodide_module set_suspender syncifyHandler throw_no_gil wrap_async_generator wrap_generator
        """,
    ),
    ("the shim's own trampoline is installed instead", "_PyEM_TrampolineCall_JS"),
    (
        "ctypes: calls through JavaScript; its closures cannot be made",
        "ffi_call_js ffi_closure_free_js ffi_prep_closure_loc_js",
    ),
    ("loads code at run time, through JavaScript promises", "_emscripten_dlopen_js"),
    (
        "JavaScript promises",
        "emscripten_promise_create emscripten_promise_destroy emscripten_promise_resolve",
    ),
    ("a test device of Pyodide's own suite", "emscripten_set_up_async_input_device_js"),
)

TRAPS: dict[str, str] = {name: why for why, names in _TRAPS for name in names.split()}
"""Name to reason."""
