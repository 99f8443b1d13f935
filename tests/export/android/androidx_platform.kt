package androidx.test.platform.app

import android.content.AssetManager
import android.content.Context

class Instrumentation {
    val context = Context(AssetManager(emptyMap()))
    val targetContext = context
}

object InstrumentationRegistry {
    fun getInstrumentation(): Instrumentation = Instrumentation()
}
