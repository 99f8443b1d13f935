package %package

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Test
import org.junit.runner.RunWith

@RunWith(AndroidJUnit4::class)
class SelfTest {
    private val assets = InstrumentationRegistry.getInstrumentation().context.assets // the test's, not the app's

    private fun read(name: String) = assets.open("selftest/$name").use { it.readBytes() }

    /** Returns a number, or the numbers of nested arrays, in order. */
    private fun flat(value: Any): List<Double> =
        if (value is JSONArray) (0 until value.length()).flatMap { flat(value.get(it)) }
        else listOf((value as Number).toDouble())

    @Test
    fun agreesWithTheDesktop() {
        val app = InstrumentationRegistry.getInstrumentation().targetContext
        val expected = JSONObject(String(read("expected.json")))
        LiteRtModel(app, origin = 0f).use { model ->
            for (image in expected.keys()) {
                val outputs = expected.getJSONObject(image)
                val numbers = model.run(read("images/$image"))
                for (name in outputs.keys()) {
                    val values = flat(outputs.get(name))
                    val largest = values.fold(0.0) { most, value -> maxOf(most, Math.abs(value)) }
                    assertEquals("$image, $name", values.size, numbers.getValue(name).size)
                    for ((value, number) in values.zip(numbers.getValue(name).toList())) {
                        assertEquals("$image, $name", value, number.toDouble(), %tolerance * largest)
                    }
                }
            }
        }
    }
}
